// Official clients that write into one map at random, and are cut now and then: node mapwriters.mjs URLS CHANNEL CLIENTS
// URLS: of WebSockets, with commas: each connection goes to the next one. Writes a line of JSON for every ten
// acknowledged writes; when its input says "stop", one with what each client has in the end, and with all that was
// written: [key, id or null, call, returned, outcome], times in ms, outcome ok, unknown or refused. Every other one applies
// deltas; how many came is said, too.
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

const [urls, channel, count] = [process.argv[2].split(","), process.argv[3], Number(process.argv[4])];
const KEYS = 12;
const TEXT = "what stays the same in all that is written, ".repeat(5);
const sockets = new Set();
const log = [];
let [stopping, acknowledged, attempts] = [false, 0, 0];

class Somewhere extends WebSocket {
  constructor(_, ...rest) {
    super(urls[attempts++ % urls.length], ...rest);
    sockets.add(this);
    this.on("close", () => sockets.delete(this));
  }
}

class Writer {
  constructor(number) {
    this.number = number;
    this.map = new Map();
    const options = { websocket: Somewhere, minReconnectDelay: 10, maxReconnectDelay: 100, timeout: 4000 };
    const client = new Centrifuge("ws://somewhere", options);
    const resubscribe = { minResubscribeDelay: 10, maxResubscribeDelay: 100 };
    const delta = number % 2 ? "fossil" : undefined;
    this.subscription = client.newMapSubscription(channel, { pageSize: 100, delta, ...resubscribe });
    this.subscription.on("sync", ({ entries }) => (this.map = new Map(entries.map(({ key, data }) => [key, data]))));
    this.subscription.on("update", ({ key, data, removed }) => (removed ? this.map.delete(key) : this.map.set(key, data)));
    this.subscription.on("error", () => {});
    client.on("error", () => {});
    client.connect();
    this.subscription.subscribe();
  }

  async write(key, id) {
    const call = performance.now();
    let outcome = "ok";
    try {
      await this.subscription.ready(4000);
      await (id === null ? this.subscription.remove(key) : this.subscription.publish(key, { id, text: "x".repeat(Math.random() * 11) + TEXT }));
      if (++acknowledged % 10 === 0) console.log(JSON.stringify({ acknowledged }));
    } catch ({ code }) {
      outcome = code >= 101 && code < 1000 ? "refused" : "unknown";
      await sleep(20);
    }
    log.push([key, id, call, performance.now(), outcome]);
    return outcome === "ok";
  }

  async run() {
    for (let step = 0; !stopping; step++) {
      const key = `key ${Math.floor(Math.random() * KEYS)}`;
      await this.write(key, Math.random() < 0.15 ? null : `${this.number}:${step}`);
      await sleep(Math.random() * 10);
    }
  }
}

const writers = [...Array(count).keys()].map((number) => new Writer(number));
const running = writers.map((writer) => writer.run());
const cutting = setInterval(() => {
  const open = [...sockets];
  if (open.length) open[Math.floor(Math.random() * open.length)].terminate();
}, 250);
for await (const line of createInterface({ input: process.stdin })) if (line === "stop") break;
stopping = true;
clearInterval(cutting);
await Promise.all(running);
while (!(await writers[0].write("end", "end")));
while (!writers.every(({ map }) => map.has("end"))) await sleep(10);
const deltas = writers.reduce((sum, { subscription }) => sum + subscription.deltaStats().numDeltaPayloads, 0);
const result = { deltas, maps: writers.map(({ map }) => Object.fromEntries(map)), log };
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit()); // not before all of it is written
