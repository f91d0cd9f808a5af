// npm socket.io, for the benchmark of clients: node server.mjs PORT
import { Server } from "socket.io";

const io = new Server(Number(process.argv[2]), { pingInterval: 3_600_000, pingTimeout: 3_600_000, cors: { origin: "*" } });
io.on("connection", (socket) => {
  socket.on("enter", (answer) => (socket.join("bench"), answer(true)));
  socket.on("say", (data) => io.to("bench").emit("news", data));
});
