// Official clients that are cut all the time, and what each was given: node ledger.mjs CLIENT...
// CLIENT: library,transport,encoding,url,channel. Writes "ready" when all have begun, then a line of JSON for each
// publication, [number of the client, data], and [number, null] where a client was told that something is lost.
// Ends when its input does.
import { Centrifuge as Json } from "centrifuge";
import { Centrifuge as Protobuf } from "centrifuge/build/protobuf";
import { io } from "socket.io-client";
import { EventSource, WebSocket } from "./patient.mjs";

const write = (...line) => console.log(JSON.stringify(line));
// A client of a stream does not await what it posts, so that a cut in the middle of that is nobody's to catch.
process.on("unhandledRejection", (error) => {
  if (error.message !== "fetch failed") throw error;
});

const PATHS = { websocket: "connection/websocket", http_stream: "connection/http_stream", sse: "connection/sse" };

function centrifuge(number, transport, encoding, url, channel) {
  const unpack = (data) => (encoding === "json" ? data : JSON.parse(new TextDecoder().decode(data)));
  const client = new (encoding === "json" ? Json : Protobuf)(
    [{ transport, endpoint: `${transport === "websocket" ? url.replace("http", "ws") : url}/${PATHS[transport]}` }],
    {
      emulationEndpoint: `${url}/emulation`,
      websocket: WebSocket,
      eventsource: EventSource,
      fetch,
      readableStream: ReadableStream,
      minReconnectDelay: 10,
      maxReconnectDelay: 50,
    },
  );
  const subscription = client.newSubscription(channel, { minResubscribeDelay: 10, maxResubscribeDelay: 50 });
  subscription.on("publication", ({ data }) => write(number, unpack(data)));
  subscription.on("subscribed", ({ wasRecovering, recovered }) => wasRecovering && !recovered && write(number, null));
  client.connect();
  subscription.subscribe();
  return subscription.ready(10000);
}

function socketio(number, transports, _, url, channel) {
  const socket = io(`${url}/kept`, {
    transports: transports.split("+"),
    auth: { name: `client ${number}` },
    forceNew: true,
    reconnectionDelay: 10,
    reconnectionDelayMax: 50,
  });
  socket.on("entry", (data) => write(number, data));
  let inside = false;
  return new Promise((resolve) => {
    socket.on("connect", async () => {
      if (socket.recovered) return;
      if (inside) write(number, null);
      const { id } = socket;
      while (socket.id === id) {
        try {
          await socket.timeout(500).emitWithAck("enter", channel);
          inside = true;
          return resolve();
        } catch {} // it was cut meanwhile: what it said may be lost
      }
    });
  });
}

const clients = process.argv.slice(2).map((each) => each.split(","));
await Promise.all(
  clients.map(([library, ...rest], number) => (library === "centrifuge" ? centrifuge : socketio)(number, ...rest)),
);
console.log("ready");
process.stdin.on("end", () => process.exit(0)).resume();
