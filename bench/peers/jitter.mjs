// Clients that lose their connection again and again, and what they got: node jitter.mjs KIND CLIENTS COUNT URL...
//
// KIND: socket.io or centrifuge, the official clients. One more client publishes COUNT numbers, two a second; all
// others lose their connection at a random moment of every ten seconds, without a close, and come back two seconds later.
// Prints JSON: of what was due, what came, came twice, came out of order.
import { Centrifuge } from "centrifuge";
import { io } from "socket.io-client";
import WebSocket from "ws";

const [kind, clients, count, ...urls] = process.argv.slice(2).map((each, index) => (index in { 1: 0, 2: 0 } ? Number(each) : each));
const AWAY = 2000, EVERY = 10_000, PAUSE = 500, REST = 8000;
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

function viaSocketIO(url, received) {
  const socket = io(url, {
    transports: ["websocket"], forceNew: true,
    reconnectionDelay: AWAY, reconnectionDelayMax: AWAY, randomizationFactor: 0,
  });
  socket.on("news", (data) => received(data.number));
  let enter;
  const entered = new Promise((done) => (enter = done));
  // As the documentation of each says: rooms are entered again, unless the session was recovered.
  socket.on("connect", () => (socket.recovered ? 0 : socket.emit("enter", enter)));
  return { entered, socket, cut: () => socket.io.engine?.transport?.ws?.terminate?.(), end: () => socket.close() };
}

function viaCentrifuge(url, received) {
  let connection;
  class Connection extends WebSocket {
    constructor(...all) {
      super(...all, { allowSynchronousEvents: false });
      connection = this;
    }
  }
  const client = new Centrifuge(`${url.replace("http", "ws")}/connection/websocket`, {
    websocket: Connection, minReconnectDelay: AWAY, maxReconnectDelay: AWAY,
  });
  const subscription = client.newSubscription("bench", { recoverable: true, positioned: true });
  subscription.on("publication", ({ data }) => received((Array.isArray(data) ? data[1] : data.data?.[1] ?? data).number));
  const entered = new Promise((done) => subscription.once("subscribed", done));
  subscription.subscribe();
  client.connect();
  return { entered, cut: () => connection?.terminate(), end: () => client.disconnect() };
}

const got = [];
const all = [];
for (let index = 0; index < clients; index++) {
  const numbers = [];
  got.push(numbers);
  all.push((kind === "centrifuge" ? viaCentrifuge : viaSocketIO)(urls[index % urls.length], (number) => numbers.push(number)));
  if (index % 50 === 49) await Promise.all(all.map((each) => each.entered));
}
const publisher = viaSocketIO(urls[0], () => {});
await Promise.all([...all, publisher].map((each) => each.entered));
await sleep(500);

let running = true;
for (const each of all) {
  (async () => {
    while (running) {
      const when = Math.random() * EVERY;
      await sleep(when);
      if (running) each.cut();
      await sleep(EVERY - when);
    }
  })();
}
for (let number = 0; number < count; number++) {
  publisher.socket.emit("say", { number });
  await sleep(PAUSE);
}
running = false;
await sleep(REST);
for (const each of [...all, publisher]) each.end();
const result = { due: clients * count, delivered: 0, twice: 0, disordered: 0 };
for (const numbers of got) {
  const distinct = new Set(numbers);
  result.delivered += distinct.size;
  result.twice += numbers.length - distinct.size;
  result.disordered += numbers.filter((number, index) => index && number < numbers[index - 1]).length;
}
console.log(JSON.stringify(result));
process.exit(0);
