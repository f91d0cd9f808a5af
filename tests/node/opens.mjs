// Opens a WebSocket as each official client does: node opens.mjs URL
import { Centrifuge } from "centrifuge";
import { io } from "socket.io-client";
import WebSocket from "ws";

const [url] = process.argv.slice(2);
const once = { reconnection: false, transports: ["websocket"] };

new Centrifuge(`${url}/connection/websocket`, { websocket: WebSocket, token: "a.b.c" }).connect();
new Centrifuge(`${url}/connection/websocket`, { websocket: WebSocket, protocol: "protobuf" }).connect();
io(url.replace("ws", "http"), once);
if (globalThis.WebSocket) new globalThis.WebSocket(`${url}/channels/news`);
