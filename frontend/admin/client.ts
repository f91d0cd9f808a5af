// One client, or all clients of a user: who it is, where it is, what it does; and a button that disconnects it.

import { make } from "../src/page";
import { type ClientItem, type Feed, refused } from "./feed";
import { bytes, count, duration, time, user } from "./format";
import { card, clientRow, CLIENT_COLUMNS, el, empty, link, Table } from "./parts";
import { Tail } from "./tail";
import type { View } from "./view";

const AGAIN = 2_000; // milliseconds

export class ClientView implements View {
  readonly root = make("div", "view");
  private readonly body = make("div", "split");
  private readonly known = make("dl", "known");
  private readonly channels = make("ul", "chips");
  private readonly actions = make("div", "actions");
  private tail: Tail | null = null;
  private timer: ReturnType<typeof setInterval>;

  constructor(
    private readonly feed: Feed,
    readonly title: string,
  ) {
    this.root.append(
      el("div", "heading", el("p", "kind", "Client"), el("h1", "name mono", title), this.actions),
      this.body,
    );
    this.body.append(el("div", "side", card("Identity", this.known), card("Channels", this.channels)));
    void this.look();
    this.timer = setInterval(() => void this.look(), AGAIN);
  }

  close(): void {
    clearInterval(this.timer);
    this.tail?.stop();
  }

  private async look(): Promise<void> {
    try {
      this.show(await this.feed.call<ClientItem>("client", { text: this.title }));
    } catch (error) {
      if (!refused(error)) return;
      clearInterval(this.timer);
      this.actions.replaceChildren(make("p", "gone", "This client is not connected any more."));
      if (!this.known.children.length) this.body.replaceChildren(empty("There is no client with this id."));
    }
  }

  private show(it: ClientItem): void {
    const facts: [string, Node | string][] = [
      ["User", it.user ? link(it.user, "user", it.user) : "anonymous"],
      ["Protocol", it.dialect],
      ["Transport", it.transport],
      ["Round trip", duration(it.round_trip)],
      ["Queued for it", it.waiting ? bytes(it.waiting) : "nothing"],
      ["Token ends", it.expires ? time(it.expires) : "never"],
      ["Address", it.address || "private"],
      ["Node", el("span", "mono", it.node)],
    ];
    if (it.info) facts.push(["Info", make("code", "", it.info)]);
    this.known.replaceChildren(...facts.map(([name, value]) => el("div", "", make("dt", "", name), el("dd", "", value))));
    this.channels.replaceChildren(
      ...(it.channels.length
        ? it.channels.map((name) => el("li", "", link(name, "channel", name)))
        : [empty("It is subscribed to no channel.")]),
    );
    if (!this.tail && it.user) {
      this.tail = new Tail(this.feed, "Live", `user:${it.user}`, `all clients of ${it.user}`, true);
      this.body.prepend(this.tail.root);
    }
    if (!this.actions.children.length && this.feed.about.allow.includes("disconnect")) this.offer(it);
  }

  private offer(it: ClientItem): void {
    const button = make("button", "danger", "Disconnect");
    let sure = false;
    button.addEventListener("click", () => {
      if (!sure) {
        sure = true;
        button.textContent = "Really disconnect? It will not come back by itself";
        setTimeout(() => {
          sure = false;
          button.textContent = "Disconnect";
        }, 4_000);
        return;
      }
      button.disabled = true;
      void this.feed
        .call("disconnect", { client: it.id, node: it.node })
        .then(() => this.look())
        .catch((error: Error) => this.actions.append(make("p", "note", error.message)));
    });
    this.actions.append(button);
  }
}

export class UserView implements View {
  readonly root = make("div", "view");
  private readonly clients = new Table("Clients", CLIENT_COLUMNS, "The user has no client that is connected.");
  private readonly about = make("p", "quiet");
  private readonly tail: Tail;
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(
    private readonly feed: Feed,
    readonly title: string,
  ) {
    this.tail = new Tail(feed, "Live", `user:${title}`, `all clients of ${user(title)}`, true);
    this.root.append(
      el("div", "heading", el("p", "kind", "User"), el("h1", "name", title), this.about),
      card("Clients", this.clients.root),
      this.tail.root,
    );
    void this.look();
    this.timer = setInterval(() => void this.look(), AGAIN);
  }

  close(): void {
    clearInterval(this.timer);
    this.tail.stop();
  }

  private async look(): Promise<void> {
    const found = this.feed.call<{ clients: ClientItem[] }>("clients", { text: this.title, exact: true });
    const { clients } = await found.catch(() => ({ clients: null })); // the connection went away
    if (!clients) return;
    const own = clients.filter((it) => it.user === this.title);
    this.about.textContent = `${count(own.length)} ${own.length === 1 ? "client" : "clients"}`;
    this.clients.fill(own.map(clientRow));
  }
}
