// Opens a WebSocket as each official client does, and polls and posts: node opens.mjs URL
import { Centrifuge } from "centrifuge";
import { io } from "socket.io-client";
import WebSocket from "ws";

const [url] = process.argv.slice(2);
const once = { reconnection: false, transports: ["websocket"] };

new Centrifuge(`${url}/connection/websocket`, { websocket: WebSocket, token: "a.b.c" }).connect();
new Centrifuge(`${url}/connection/websocket`, { websocket: WebSocket, protocol: "protobuf" }).connect();
io(url.replace("ws", "http"), once);
if (globalThis.WebSocket) new globalThis.WebSocket(`${url}/channels/news`);
io(url.replace("ws", "http"), { ...once, transports: ["polling"], forceNew: true });
const page = `${url.replace("ws", "http")}/channels/news`;
fetch(`${page}?wait=25`).catch(() => {});
fetch(page, { method: "POST", body: "1", headers: { "Content-Type": "application/json" } }).catch(() => {});
