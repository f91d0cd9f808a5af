// npm ws, for the benchmarks: node ws.mjs PORT. What one sends, all get.
import { WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), perMessageDeflate: false });
server.on("connection", (socket) => {
  socket.on("message", (data) => {
    for (const each of server.clients) each.send(data, { binary: false });
  });
});
