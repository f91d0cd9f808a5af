// The lab: three ways to subscribe to one channel, side by side. A fourth connection asks for the server's clock, so that what
// differs between the two clocks is not taken for latency.

import { Centrifuge } from "centrifuge";
import { beside } from "../../src/beside";
import { ServerClock } from "../../src/latency";
import { address, element } from "../../src/page";
import { Card } from "./card";
import { ByEvents, ByPolls, ByWebSocket, type Subscriber, type Way } from "./ways";
import "./lab.css";

const CUT = 5_000; // milliseconds
const AGAIN = 15_000; // milliseconds between two looks at the server's clock
const WAYS: [new (channel: URL, subscriber: Subscriber) => Way, string, string][] = [
  [ByWebSocket, "WebSocket", "Both directions, a few bytes around each message. The first choice, where nothing on the way forbids it."],
  [ByEvents, "Server-sent events", "One direction over plain HTTP. Reconnects by itself, and passes proxies that know no WebSocket."],
  [ByPolls, "Long polling", "A request for each answer. Works everywhere; the busier the channel, the more messages share one answer."],
];

const client = new Centrifuge(address("lab"), { maxReconnectDelay: 3_000 });
const clock = new ServerClock();
const still = matchMedia("(prefers-reduced-motion: reduce)");
const cards = WAYS.map(([, name, line], index) => new Card(element("ways"), name, line, () => cut([index])));
let ways: Way[] = [];

/** Subscribe to a flow of so many messages per second. */
function subscribe(rate: string): void {
  for (const way of ways) way.stop();
  const channel = new URL(`../channels/flow:${rate}`, address("lab").replace(/^ws/, "http"));
  ways = WAYS.map(([Kind], index) => {
    const card = cards[index] as Card;
    card.reset();
    const way: Way = new Kind(channel, {
      take: (message, missed) => ways[index] === way && card.take(message, missed),
      state: (live, why) => {
        if (ways[index] !== way) return;
        card.state(live, why);
        showState(why);
      },
    });
    return way;
  });
  for (const way of ways) void way.start();
}

function cut(indexes: number[]): void {
  const chosen = indexes.map((index) => ways[index] as Way);
  for (const way of chosen) way.stop();
  setTimeout(() => chosen.filter((way) => ways.includes(way)).forEach((way) => void way.start()), CUT);
}

function show(): void {
  const { offset } = clock.get();
  ways.forEach((way, index) => cards[index]?.show(way, offset));
}

/** why: one of them is not connected. */
function showState(why = ""): void {
  const live = cards.every((card) => card.isLive);
  const line = element("state");
  line.dataset.state = live ? "live" : "lost";
  line.textContent = live ? "Live" : cards.some((card) => card.isLive) ? "Not all of them are connected" : why;
  element<HTMLButtonElement>("cut").disabled = !live;
}

async function measureClock(): Promise<void> {
  if (client.state !== "connected") return;
  await clock.measure(async () => (await client.rpc("clock", null)).data as number).catch(() => undefined);
}

function draw(): void {
  if (!document.hidden) cards.forEach((card) => card.draw(clock.get().offset));
}

for (const choice of document.querySelectorAll<HTMLInputElement>("input[name=rate]")) {
  choice.addEventListener("change", () => subscribe(choice.value));
}
element("cut").addEventListener("click", () => cut([0, 1, 2]));
client.on("connected", () => void measureClock());
client.connect();
beside();
setInterval(show, 500);
setInterval(() => void measureClock(), AGAIN);
setInterval(draw, still.matches ? 1_000 : 50);
window.addEventListener("pagehide", () => ways.forEach((way) => way.stop()));
subscribe("10");
