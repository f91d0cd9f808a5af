const e=`// Paper boats: the page sends where its visitor points, and draws what the room says there is.

import { Centrifuge } from "centrifuge";
import { address, count, element, make } from "../../src/page";
import { Status } from "../../src/status";
import { nameField, visitorKey, visitorName } from "../../src/visitor";
import { Pond, type Boat, type Delta } from "./pond";
import "./ships.css";

const EVERY = 1000 / 20; // milliseconds between two inputs, at least
const FULL = 170; // pixels from the boat at which it goes as fast as it can

const client = new Centrifuge(address("ships"), { data: { name: visitorName(), key: visitorKey() }, maxReconnectDelay: 3_000 });
const status = new Status(client, "ticks");
const stage = element("stage");
const pond = new Pond(element<HTMLCanvasElement>("water"));

// ------------------------------------------------------------------------------------------------------ what there is

const room = client.newSubscription("pond:home");
let bytes = 0;
status.follow<Delta>(room, (delta) => {
  bytes += JSON.stringify(delta).length;
  pond.take(delta);
});

setInterval(() => {
  element("wire").textContent = (bytes / 1024).toFixed(1);
  bytes = 0;
}, 1_000);

setInterval(() => {
  const boats = pond.boats().sort((a, b) => b.points - a.points);
  element("board").replaceChildren(...boats.slice(0, 6).map(place));
  element("points").textContent = count(pond.mine()?.points ?? 0);
  const best = pond.best();
  element("best").textContent = best?.name ? \`Best ever \${count(best.points)}, \${best.name}\` : "";
  const mine = pond.mine();
  if (mine) stage.dataset.at = \`\${Math.round(mine.x)},\${Math.round(mine.y)}\`;
}, 250);

function place(boat: Boat): HTMLElement {
  const item = make("li", boat === pond.mine() ? "you" : "");
  item.style.setProperty("--colour", \`var(--who-\${pond.colour(boat.name)})\`);
  item.append(make("i"), make("span", "", boat.name), make("b", "", count(boat.points)));
  return item;
}

requestAnimationFrame(function draw() {
  pond.draw(status.serverNow());
  requestAnimationFrame(draw);
});

// ------------------------------------------------------------------------------------------------------ what I want

let wanted = { x: 0, y: 0, boost: false };
let sent = "";
let seq = 0;
const keys = new Set<string>();

setInterval(() => {
  const text = JSON.stringify(wanted);
  if (text === sent || client.state !== "connected") return;
  sent = text;
  room.publish({ do: wanted, seq: ++seq, at: Date.now(), tick: pond.tick }).catch(() => (sent = ""));
}, EVERY);
room.on("subscribed", () => (sent = ""));

function want(x: number, y: number, boost: boolean): void {
  const length = Math.hypot(x, y);
  const scale = length > 1 ? 1 / length : 1;
  const round = (value: number): number => Math.round(value * scale * 50) / 50;
  wanted = { x: round(x), y: round(y), boost };
  element("hint").classList.add("known");
}

function follow(event: PointerEvent, boost = event.buttons > 0 && event.pointerType === "mouse"): void {
  const mine = pond.mine();
  if (!mine) return;
  const { x, y } = pond.place(event.clientX, event.clientY);
  want((x - mine.x) / FULL, (y - mine.y) / FULL, boost);
}

stage.addEventListener("pointermove", (event) => follow(event, wanted.boost && event.pointerType !== "mouse" ? true : undefined));
stage.addEventListener("pointerdown", (event) => follow(event, event.pointerType === "mouse" || !event.isPrimary));
stage.addEventListener("pointerup", (event) => (event.pointerType === "mouse" ? follow(event, false) : want(0, 0, false)));
stage.addEventListener("pointerleave", () => want(0, 0, false));

const WAYS: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function steer(event: KeyboardEvent, down: boolean): void {
  if (!(event.key in WAYS) && event.key !== " ") return;
  event.preventDefault();
  if (down) keys.add(event.key);
  else keys.delete(event.key);
  const ways = [...keys].flatMap((key) => (WAYS[key] ? [WAYS[key]] : []));
  want(ways.reduce((sum, [x]) => sum + x, 0), ways.reduce((sum, [, y]) => sum + y, 0), keys.has(" "));
}

stage.addEventListener("keydown", (event) => steer(event, true));
stage.addEventListener("keyup", (event) => steer(event, false));

nameField(element<HTMLInputElement>("name"), client, { key: visitorKey() });
room.subscribe();
client.connect();
`;export{e as default};
