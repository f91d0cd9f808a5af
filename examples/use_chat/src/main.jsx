import { createRoot } from "react-dom/client";
import { DefaultChatTransport, WebSocketChatTransport } from "ai";
import { Chat } from "./Chat.jsx";

const api = `${location.origin}/live/ai/chat`;
const id = (location.hash ||= "#one").slice(1);
const { messages } = await (await fetch(`${api}/${id}/messages`)).json();

// The same chat over one WebSocket, if the address has ?socket in it.
const transport = location.search.includes("socket")
  ? new WebSocketChatTransport({ url: `${api.replace("http", "ws")}/socket` })
  : new DefaultChatTransport({ api });

createRoot(document.querySelector("main")).render(
  <Chat id={id} before={messages} transport={transport} onStop={() => fetch(`${api}/${id}/stop`, { method: "POST" })} />,
);
