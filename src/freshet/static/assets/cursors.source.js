const n=`// Shared cursors: each page publishes where its pointer is, and draws where all the others are.

import { Centrifuge, type ClientInfo } from "centrifuge";
import { address, element } from "../../src/page";
import { Status } from "../../src/status";
import { colourOf, nameField, nameOf, visitorName } from "../../src/visitor";
import { Cursor, type Pointer } from "./cursor";
import "./cursors.css";

const EVERY = 1000 / 30; // milliseconds between two publications
const STEP = 0.02; // of the stage, for an arrow key

const client = new Centrifuge(address("cursors"), { data: { name: visitorName() }, maxReconnectDelay: 3_000 });
const status = new Status(client, "positions");
const stage = element("stage");
const cursors = new Map<string, Cursor>();
const pointers = client.newSubscription("stage");
let me = "";

// ------------------------------------------------------------------------------------------------- where the others are

status.follow<Pointer>(pointers, (pointer, { info }) => {
  if (info) cursorOf(info).add(pointer);
  else if (pointer.robot) robotOf(pointer.robot).add(pointer);
});
pointers.on("subscribed", async () => {
  clear();
  for (const info of Object.values((await pointers.presence()).clients)) cursorOf(info);
});
pointers.on("join", ({ info }) => cursorOf(info));
pointers.on("leave", ({ info }) => {
  cursors.get(info.client)?.remove();
  cursors.delete(info.client);
  showAlone();
});
pointers.on("subscribing", clear);

function cursorOf(info: ClientInfo): Cursor {
  let cursor = cursors.get(info.client);
  if (!cursor) {
    const mine = info.client === me;
    cursor = new Cursor(mine ? "you" : nameOf(info), colourOf(info), mine ? "mine" : "other", stage, element("people"));
    cursors.set(info.client, cursor);
    showAlone();
  }
  return cursor;
}

/** A robot is no client: the server publishes for it, and says whose position that is. */
function robotOf(name: string): Cursor {
  const cursor = cursors.get(name) ?? new Cursor(name, "var(--robot)", "robot", stage, element("people"));
  cursors.set(name, cursor);
  return cursor;
}

function clear(): void {
  for (const cursor of cursors.values()) cursor.remove();
  cursors.clear();
  showAlone();
}

function showAlone(): void {
  const people = [...cursors.values()].filter(({ kind }) => kind !== "robot");
  element("alone").hidden = people.length > 1;
}

requestAnimationFrame(function draw() {
  for (const cursor of cursors.values()) cursor.draw(status.serverNow());
  requestAnimationFrame(draw);
});

// ------------------------------------------------------------------------------------------------------- where I am

let here = { x: 0.5, y: 0.5, here: true };
let waiting = 0; // a timer: the last position goes out, however quickly the pointer moved before it stopped

function move(x: number, y: number, inside = true): void {
  const share = (value: number): number => Math.min(1, Math.max(0, value));
  here = { x: share(x), y: share(y), here: inside };
  waiting ||= window.setTimeout(() => {
    waiting = 0;
    pointers.publish(here).catch(() => undefined); // the next position makes up for one that is lost
  }, EVERY);
}

function follow(event: PointerEvent): void {
  const { left, top, width, height } = stage.getBoundingClientRect();
  move((event.clientX - left) / width, (event.clientY - top) / height);
}

stage.addEventListener("pointermove", follow);
stage.addEventListener("pointerdown", follow);
stage.addEventListener("pointerleave", () => move(here.x, here.y, false));
stage.addEventListener("keydown", (event) => {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!way) return;
  event.preventDefault();
  move(here.x + STEP * (way[0] ?? 0), here.y + STEP * (way[1] ?? 0));
});

// ------------------------------------------------------------------------------------------------------------ begin

client.on("connected", ({ client: id }) => (me = id));
nameField(element("name"), client);
pointers.subscribe();
client.connect();
`;export{n as default};
