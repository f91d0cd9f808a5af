// The ticker page: one connection, a subscription per symbol, and what the visitor should know about both.

import { Centrifuge } from "centrifuge";
import { Board, type Quote } from "./board";
import { clockOffset, Latency, now } from "./latency";
import { themeSwitch } from "./theme";
import "./tokens.css";
import "./ticker.css";

const CUT = 3_000; // milliseconds

function element<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

function say(state: "connecting" | "live" | "lost", text: string): void {
  const line = element("state");
  line.dataset.state = state;
  line.textContent = text;
}

themeSwitch(element<HTMLSelectElement>("theme"));

const url = new URL("connection/websocket", location.href);
url.protocol = url.protocol.replace("http", "ws");
const client = new Centrifuge(url.href, { minReconnectDelay: 200, maxReconnectDelay: 3_000 });
const latency = new Latency();
let offset = 0;
let total = 0;
let board: Board | null = null;
let recovered = 0;
let gaps = 0;

async function ask<T>(method: string): Promise<T> {
  return (await client.rpc(method, null)).data as T;
}

async function begin(): Promise<void> {
  offset = await clockOffset(async () => (await ask<{ now: number }>("clock")).now);
  if (board) return;
  const { symbols } = await ask<{ symbols: { symbol: string; name: string }[] }>("symbols");
  board = new Board(element("rows"), symbols);
  element("empty").hidden = true;
  element("board").hidden = false;
  for (const { symbol } of symbols) listen(symbol);
}

function listen(symbol: string): void {
  const subscription = client.newSubscription(`ticker:${symbol}`);
  let catchingUp = 0; // publications that this subscription is about to hand over from the log
  subscription.on("subscribed", (context) => {
    if (!context.wasRecovering) return;
    if (!context.recovered) gaps++;
    catchingUp = context.recovered ? context.streamPosition ? context.streamPosition.offset - seen : 0 : 0;
    report();
  });
  let seen = 0;
  subscription.on("publication", (context) => {
    const quote = context.data as Quote;
    seen = context.offset ?? seen;
    total++;
    board?.take(quote);
    if (catchingUp > 0) {
      catchingUp--;
      recovered++;
      report();
    } else {
      latency.add(now() + offset - quote.at);
    }
  });
  subscription.subscribe();
}

function report(): void {
  const missed = recovered ? ` · recovered ${recovered} missed updates` : "";
  const lost = gaps ? ` · ${gaps} channels were away for too long and went on from now` : "";
  say("live", `Live${missed}${lost}`);
}

client.on("connecting", (context) => {
  if (board) say("lost", `Connection lost (${context.reason}). Trying again…`);
  else say("connecting", "Connecting…");
});
client.on("connected", (context) => {
  recovered = gaps = 0;
  element("transport").textContent = context.transport;
  element<HTMLButtonElement>("cut").disabled = false;
  report();
  begin().catch((error: unknown) => say("lost", `The server did not answer: ${String(error)}`));
});
client.on("disconnected", (context) => say("lost", `Disconnected: ${context.reason}`));

element("cut").addEventListener("click", () => {
  element<HTMLButtonElement>("cut").disabled = true;
  client.disconnect();
  say("lost", "Connection cut. It comes back in 3 s.");
  setTimeout(() => client.connect(), CUT);
});

setInterval(() => {
  const summary = latency.summary();
  element("p50").textContent = summary ? `${Math.max(0, summary.p50).toFixed(1)} ms` : "–";
  element("p95").textContent = summary ? `${Math.max(0, summary.p95).toFixed(1)} ms` : "–";
  element("rate").textContent = summary ? Math.round(summary.rate).toString() : "–";
  element("total").textContent = total.toLocaleString("en");
}, 500);

client.connect();
