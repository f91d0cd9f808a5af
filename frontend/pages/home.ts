// The home page: three clients of one channel, of which one after the other is cut, and misses nothing.

import { Centrifuge } from "centrifuge";
import { highlight } from "../src/highlight";
import { Meter } from "../src/meter";
import { address, count, element } from "../src/page";
import { byCentrifuge, byCurl, bySocketIO, type Message } from "./home/clients";
import { Pane } from "./home/pane";
import "./home.css";

const AWAY = 4_000; // milliseconds that one is cut
const WHOLE = 5_000; // milliseconds before the next one is
const FORGOTTEN = 100; // messages: as far back none of them goes in one log

const WAYS = { centrifuge: byCentrifuge, socketio: bySocketIO, curl: byCurl };
const websocket = address("home");
const clock = new Centrifuge(websocket, { maxReconnectDelay: 3_000 }); // a fourth, that is never cut: for the time alone
const meter = new Meter(clock);
let top = 0;

const panes = Object.entries(WAYS).map(([name, begin]) => {
  const pane = new Pane(name, published);
  pane.use(begin(websocket, pane), AWAY);
  return pane;
});
clock.connect();

function published({ n, at }: Message, late: boolean): void {
  if (n < top - FORGOTTEN) {
    top = 0;
    for (const pane of panes) pane.reset();
  }
  top = Math.max(top, n);
  if (!late) meter.add(at);
  for (const pane of panes) pane.published(n);
}

// ------------------------------------------------------------------------------------------- what the promises are in figures

function sum(figure: "received" | "wrong" | "missed" | "recovered"): string {
  return count(panes.reduce((all, pane) => all + pane[figure], 0));
}

setInterval(() => {
  for (const figure of ["received", "wrong", "missed", "recovered"] as const) element(figure).textContent = sum(figure);
}, 500);

// ------------------------------------------------------------------------------- who is cut next, until a visitor stops it

const still = matchMedia("(prefers-reduced-motion: reduce)");
const button = element<HTMLButtonElement>("show");
let turn = 0;
let timer = 0;

function next(): void {
  const pane = panes[++turn % panes.length];
  if (!document.hidden) void pane?.cut(AWAY);
}

function play(on: boolean): void {
  clearInterval(timer);
  timer = on ? window.setInterval(next, AWAY + WHOLE) : 0;
  button.textContent = on ? "Stop cutting" : "Cut one after the other";
}

button.addEventListener("click", () => {
  play(!timer);
  if (timer) next();
});
play(!still.matches);
if (timer) setTimeout(() => timer && next(), WHOLE / 2);

// -------------------------------------------------------------------------------------------------------------- the rest

const sample = element("sample");
sample.replaceChildren(highlight(sample.textContent ?? "", "python"));
const install = element("install");
element("copy").addEventListener("click", async ({ currentTarget }) => {
  const pressed = currentTarget as HTMLButtonElement;
  await navigator.clipboard.writeText(install.textContent ?? "");
  pressed.textContent = "Copied";
  setTimeout(() => (pressed.textContent = "Copy"), 1_500);
});
