// One channel: its rule, who is present, what its log holds, what comes; and a field to publish a test message.

import { make } from "../src/page";
import { type Feed, refused, type TailItem } from "./feed";
import { count, rate } from "./format";
import { card, el, empty, link } from "./parts";
import { Tail } from "./tail";
import type { View } from "./view";

const AGAIN = 5_000; // milliseconds between two looks at who is present

interface Found {
  rule: Record<string, string | boolean | null>;
  history: { offset: number; epoch: string; publications: TailItem[] } | null;
  presence: { total: number; users: number; clients: { client: string; user: string }[] } | null;
}

export class ChannelView implements View {
  readonly root = make("div", "view");
  private readonly facts = make("ul", "facts");
  private readonly figures = make("p", "quiet");
  private readonly present = make("div");
  private readonly tail: Tail;
  private readonly timer: ReturnType<typeof setInterval>;
  private first = true;

  constructor(
    private readonly feed: Feed,
    readonly title: string,
  ) {
    this.tail = new Tail(feed, "Live", `channel:${title}`, `publications in ${title}`);
    const side = el("div", "side", card("Present", this.present));
    if (feed.about.allow.includes("publish")) side.prepend(this.publisher());
    this.root.append(
      el("div", "heading", el("p", "kind", "Channel"), el("h1", "name", title), this.figures, this.facts),
      el("div", "split", this.tail.root, side),
    );
    void this.look();
    this.timer = setInterval(() => void this.look(), AGAIN);
  }

  update(): void {
    const found = this.feed.lists.channels.find(([name]) => name === this.title);
    const events = this.feed.rates.get(this.title);
    if (found) this.figures.textContent = `${count(found[1])} ${found[1] === 1 ? "subscriber" : "subscribers"}, ${rate(events ?? 0)} events / s`;
  }

  close(): void {
    clearInterval(this.timer);
    this.tail.stop();
  }

  private async look(): Promise<void> {
    try {
      const found = await this.feed.call<Found>("channel", { channel: this.title });
      this.rule(found);
      this.who(found.presence);
      if (this.first && found.history) this.tail.past(found.history.publications);
      this.first = false;
    } catch (error) {
      if (refused(error)) this.present.replaceChildren(empty((error as Error).message));
    }
  }

  private rule({ rule, history }: Found): void {
    const said = [
      ["rule", rule.match],
      ["history", rule.history ?? "none"],
      ...(history ? [["offset", count(history.offset)]] : []),
      ["publish", rule.publish],
      ["subscribe", rule.subscribe],
      ["slow", rule.slow],
    ];
    this.facts.replaceChildren(
      ...said.map(([name, value]) => el("li", "", make("span", "quiet", `${name} `), make("b", "", String(value)))),
    );
  }

  private who(presence: Found["presence"]): void {
    if (!presence) {
      this.present.replaceChildren(empty("The channel's rule keeps no presence: presence = true."));
      return;
    }
    const list = el(
      "ul",
      "people",
      ...presence.clients.map(({ client, user }) =>
        el("li", "", user ? link(user, "user", user) : make("span", "quiet", "anonymous"), link(client.slice(0, 8), "client", client, "mono")),
      ),
    );
    const note = make("p", "note", `${count(presence.total)} clients of ${count(presence.users)} users`);
    this.present.replaceChildren(...(presence.total ? [note, list] : [empty("Nobody is here.")]));
  }

  private publisher(): HTMLElement {
    const [form, field, button, said] = [make("form", "publish"), make("textarea"), make("button", "primary", "Publish"), make("p", "note")];
    field.rows = 3;
    field.spellcheck = false;
    field.value = '{"hello": "from the admin page"}';
    field.setAttribute("aria-label", "JSON to publish");
    said.setAttribute("role", "status");
    form.append(field, el("div", "row", said, button));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.publish(field.value, said);
    });
    return card("Publish a test message", form);
  }

  private async publish(text: string, said: HTMLElement): Promise<void> {
    let data: unknown;
    try {
      data = JSON.parse(text);
    } catch {
      said.textContent = "This is not JSON. Text wants quotation marks.";
      return;
    }
    try {
      const { offset } = await this.feed.call<{ offset: number }>("publish", { channel: this.title, data });
      said.textContent = offset ? `Published, offset ${offset}.` : "Published.";
    } catch (error) {
      said.textContent = (error as Error).message;
    }
  }
}
