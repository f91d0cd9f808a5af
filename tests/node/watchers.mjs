// Socket.IO clients, unmodified, that watch channels: node watchers.mjs, told what to do on its input, a line each.
// ["open", number, url, channel]  ["cut", number]  ["close", number]
// Writes a line for each event, [number, data], and [number, null] where a client could not go on.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";
import { seconds } from "./patience.mjs";

const clients = new Map();
const write = (...line) => console.log(JSON.stringify(line));

const does = {
  open(number, url, channel) {
    const socket = io(`${url}/kept`, { forceNew: true, reconnectionDelay: 10, reconnectionDelayMax: 50 });
    clients.set(number, socket);
    socket.on("message", (data) => write(number, data));
    socket.on("unsubscribed", () => write(number, null));
    socket.on("connect", async () => {
      if (socket.recovered) return;
      const { id } = socket;
      try {
        await socket.timeout(seconds(5)).emitWithAck("subscribe", channel, {});
      } catch {
        if (socket.id === id) write(number, null);
      }
    });
  },
  cut(number) {
    clients.get(number)?.io.engine?.close();
  },
  close(number) {
    clients.get(number)?.disconnect();
    clients.delete(number);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [what, ...rest] = JSON.parse(line);
  does[what](...rest);
}
process.exit(0);
