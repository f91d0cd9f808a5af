// One client on the page: a place for each of the last thirty messages, which is the same in all three panes.

import { element } from "../../src/page";
import type { Client, Message, Receiver } from "./clients";

const PRINTED = 3; // lines

export class Pane implements Receiver {
  received = 0;
  wrong = 0; // lost, repeated or out of order
  missed = 0; // published while it was cut, in all
  recovered = 0;
  private readonly places: HTMLElement[];
  private readonly button: HTMLButtonElement;
  private readonly lines: string[] = [];
  private last = 0; // what it has got
  private top = 0; // what anybody has got
  private leftAt = 0; // the last message before it was cut; 0: it is here
  private behind = 0; // up to here it was cut
  private client: Client | null = null;

  /** name: pages have #pane-{name}, as parts/pane.html makes it. came: tell the others what was published. */
  constructor(
    name: string,
    private readonly came: (message: Message, late: boolean) => void,
  ) {
    this.root = element(`pane-${name}`);
    this.places = [...this.root.querySelectorAll<HTMLElement>(".place")];
    this.button = this.find("button") as HTMLButtonElement;
  }

  private readonly root: HTMLElement;

  /** The client that reports here. away: how long a press on the button cuts it, milliseconds. */
  use(client: Client, away: number): void {
    this.client = client;
    this.button.addEventListener("click", () => void this.cut(away));
  }

  /** Cut it for so many milliseconds; nothing if it is cut already. */
  async cut(away: number): Promise<void> {
    if (this.button.disabled) return;
    this.button.disabled = true;
    this.leftAt = this.last;
    this.client?.cut();
    this.live(false);
    await new Promise((resolve) => setTimeout(resolve, away));
    this.client?.back();
  }

  live(is: boolean): void {
    const state = this.find(".state");
    state.dataset.state = is ? "live" : "lost";
    state.textContent = is ? "Live" : this.leftAt ? "Cut" : "Connecting…";
    this.root.classList.toggle("away", !is);
    this.button.disabled = !is;
    if (is) {
      this.behind = this.leftAt ? this.top : 0;
      this.leftAt = 0;
    }
    this.say();
  }

  take(message: Message, raw: string): void {
    const { n } = message;
    const late = n <= this.behind;
    if (this.last && n !== this.last + 1) this.wrong++;
    this.last = n;
    this.received++;
    if (late) this.recovered++;
    this.lines.push(raw);
    this.lines.splice(0, this.lines.length - PRINTED);
    this.find("pre").textContent = this.lines.join("\n");
    this.came(message, late);
    this.show(n, late ? "recovered" : "received");
    this.say();
  }

  /** Somebody has got message n. */
  published(n: number): void {
    if (n <= this.top) return;
    this.top = n;
    if (!this.leftAt) return;
    this.missed++;
    this.show(n, "missed");
    this.say();
  }

  /** The server began another log. */
  reset(): void {
    this.last = this.top = this.leftAt = this.behind = 0;
    for (const place of this.places) place.className = "place";
  }

  private show(n: number, how: string): void {
    const count = this.places.length;
    const place = this.places[(n - 1) % count];
    const next = this.places[n % count];
    if (!place || !next) return;
    place.className = `place ${how}`;
    place.textContent = String(n % 100).padStart(2, "0");
    if (n >= this.top) next.className = "place next"; // the oldest gives way
  }

  private say(): void {
    const absent = this.leftAt ? this.top - this.leftAt : 0;
    const open = this.behind ? this.behind - this.last : 0;
    const line = this.find(".verdict");
    line.dataset.verdict = this.leftAt ? "lost" : this.behind ? "whole" : "";
    line.textContent = this.leftAt
      ? `Cut off: ${absent} missed so far`
      : open > 0
        ? `${open} still to come…`
        : this.behind
          ? "Back: nothing is missing"
          : "Receives every message";
  }

  private find(selector: string): HTMLElement {
    return this.root.querySelector<HTMLElement>(selector) as HTMLElement;
  }
}
