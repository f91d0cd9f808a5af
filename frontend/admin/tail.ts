// What happens in a channel or with a user's clients, as it happens: the newest first, and no more than can be read.

import { make } from "../src/page";
import type { Feed, TailItem } from "./feed";
import { bytes, count, time } from "./format";
import { el, link } from "./parts";

const SHOWN = 200;

export class Tail {
  readonly root = make("section", "card tail");
  private readonly lines = make("ol", "lines");
  private readonly about = make("p", "note");
  private readonly pause = make("button", "", "Pause");
  private readonly filter = make("input");
  private seen = 0;
  private leftOut = 0;
  private paused = false;
  private end: () => void = () => undefined;

  /** what: what is heard, in words. topic: `channel:NAME` or `user:NAME`. */
  constructor(feed: Feed, title: string, topic: string, what: string, private readonly ofUser = false) {
    this.filter.placeholder = "Only with this text";
    this.filter.setAttribute("aria-label", "Only with this text");
    this.pause.type = "button";
    this.pause.addEventListener("click", () => {
      this.paused = !this.paused;
      this.pause.textContent = this.paused ? "Go on" : "Pause";
      this.say(what);
    });
    this.filter.addEventListener("input", () => this.sift());
    this.lines.tabIndex = 0;
    this.lines.setAttribute("aria-label", title);
    this.root.append(
      el("header", "", el("h2", "", title), el("div", "tools", this.filter, this.pause)),
      this.about,
      this.lines,
    );
    this.say(what);
    this.end = feed.tail(topic, (items, leftOut) => {
      this.seen += items.length + leftOut;
      this.leftOut += leftOut;
      if (!this.paused) this.show(items);
      this.say(what);
    });
  }

  /** Those that a log has already, the newest first. */
  past(items: TailItem[]): void {
    this.lines.append(...items.map((item) => this.line(item, true)));
    this.trim();
  }

  stop(): void {
    this.end();
  }

  private say(what: string): void {
    const left = this.leftOut ? `, ${count(this.leftOut)} left out (at most 200 a second are shown)` : "";
    this.about.textContent = `${this.paused ? "Paused. " : ""}Listening to ${what}: ${count(this.seen)} so far${left}.`;
  }

  private show(items: TailItem[]): void {
    this.lines.prepend(...items.map((item) => this.line(item)).reverse());
    this.trim();
    this.sift();
  }

  private trim(): void {
    while (this.lines.children.length > SHOWN) this.lines.lastElementChild?.remove();
  }

  private sift(): void {
    const text = this.filter.value.toLowerCase();
    for (const line of this.lines.children) {
      (line as HTMLElement).hidden = text !== "" && !line.textContent?.toLowerCase().includes(text);
    }
  }

  private line(item: TailItem, past = false): HTMLElement {
    const kind = item.command?.toLowerCase() ?? item.kind;
    const line = el(
      "li",
      item.refused ? "refused" : item.kind,
      past ? make("time", "", "log") : make("time", "", time(item.at)),
      item.offset ? make("span", "offset", `#${item.offset}`) : null,
      item.kind === "publication" && !this.ofUser ? null : make("span", "badge", kind),
    );
    if (this.ofUser && item.channel) line.append(link(item.channel, "channel", item.channel));
    if (item.method ?? item.event) line.append(make("span", "mono", item.method ?? item.event));
    if (item.data !== undefined) line.append(make("code", "", item.data));
    if (item.size && item.data && item.size > item.data.length) line.append(make("span", "quiet", `… ${bytes(item.size)}`));
    if (item.refused ?? item.why) line.append(make("span", "reason", item.refused ?? item.why));
    if (!this.ofUser && item.client) {
      line.append(item.user ? link(item.user, "user", item.user, "who") : link(item.client.slice(0, 8), "client", item.client, "who mono"));
    }
    return line;
  }
}
