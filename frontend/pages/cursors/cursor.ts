// One cursor: its positions as they come, and where it is between two of them.

import { make } from "../../src/page";

/** x, y: shares of the stage's width and height. here: false when it has left. at: the server's clock, milliseconds.
    robot: its name, if the server moves it. */
export interface Pointer {
  x: number;
  y: number;
  here: boolean;
  at: number;
  robot?: string;
}

const DELAY = 100; // milliseconds: drawn that late, there is a position before and one behind
const STALE = 500; // milliseconds without news, after which a cursor jumps instead of gliding

const ARROW = "M1 1 L1 15 L5 11.5 L7.6 17.5 L10.2 16.3 L7.6 10.5 L13 10.2 Z";

export class Cursor {
  private readonly body = make("div", "cursor");
  private readonly chip = make("li", "chip");
  private path: Pointer[] = [];
  private room = 1; // up to this share of the width its name fits to the right of it
  private readonly sizes: ResizeObserver;

  /** Mine is drawn as a ring, because the pointer itself is there already. */
  constructor(
    name: string,
    colour: string,
    readonly kind: "mine" | "other" | "robot",
    stage: HTMLElement,
    people: HTMLElement,
  ) {
    for (const part of [this.body, this.chip]) part.style.setProperty("--colour", colour);
    this.body.classList.add(kind);
    const label = make("span", "label", name);
    this.body.append(kind === "mine" ? make("span", "ring") : arrow(), label);
    this.body.hidden = true;
    this.chip.append(make("span", "dot"), make("span", "", name));
    stage.append(this.body);
    people.append(this.chip);
    this.sizes = new ResizeObserver(() => (this.room = 1 - (label.offsetLeft + label.offsetWidth) / stage.clientWidth));
    for (const sized of [label, stage]) this.sizes.observe(sized);
  }

  add(pointer: Pointer): void {
    const last = this.path.at(-1);
    // It stood still until now: without this it would creep from where it stopped long ago.
    if (last && pointer.at - last.at > STALE) this.path.push({ ...last, at: pointer.at - STALE / 5 });
    this.path.push(pointer);
  }

  /** now: the server's clock, milliseconds. */
  draw(now: number): void {
    const when = now - DELAY;
    while (this.path[1] && this.path[1].at <= when) this.path.shift();
    const [from, to] = this.path;
    if (!from) return;
    const part = to ? Math.min(1, Math.max(0, (when - from.at) / (to.at - from.at || 1))) : 0;
    const x = from.x + ((to?.x ?? from.x) - from.x) * part;
    const y = from.y + ((to?.y ?? from.y) - from.y) * part;
    this.body.hidden = !from.here;
    this.body.style.setProperty("--x", String(x * 100));
    this.body.style.setProperty("--y", String(y * 100));
    this.body.classList.toggle("left", x > this.room); // the label stays on the stage
  }

  remove(): void {
    this.sizes.disconnect();
    this.body.remove();
    this.chip.remove();
  }
}

function arrow(): SVGElement {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  svg.setAttribute("viewBox", "0 0 15 19");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ARROW);
  svg.append(path);
  return svg;
}
