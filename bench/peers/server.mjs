// npm socket.io, for the benchmarks: node server.mjs PORT [REDIS_URL [recovery]]
//
// With Redis: the adapter of Redis Streams, and, if asked for, connection state recovery, which needs it.
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const [port, url, recovery] = process.argv.slice(2);
const options = { pingInterval: 3_600_000, pingTimeout: 3_600_000, cors: { origin: "*" } };
if (url) {
  const redis = createClient({ url });
  await redis.connect();
  options.adapter = createAdapter(redis);
  if (recovery) options.connectionStateRecovery = { maxDisconnectionDuration: 120_000 };
}
const io = new Server(Number(port), options);
io.on("connection", (socket) => {
  socket.on("enter", (answer) => (socket.join("bench"), answer(true)));
  socket.on("say", (data) => io.to("bench").emit("news", data));
});
