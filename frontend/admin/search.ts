// Channels and clients whose name has a text in it; without one, those that there are.

import { make } from "../src/page";
import type { ClientItem, Feed, Problem } from "./feed";
import { count, rate, time } from "./format";
import { bar, card, clientRow, CLIENT_COLUMNS, el, link, Table } from "./parts";
import type { View } from "./view";

const AGAIN = 3_000; // milliseconds
const OF_A_NODE = 100; // clients that it lists

abstract class Looking implements View {
  readonly root = make("div", "view");
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(
    protected readonly feed: Feed,
    readonly title: string,
  ) {
    this.timer = setInterval(() => void this.again(), AGAIN);
    queueMicrotask(() => void this.again());
  }

  close(): void {
    clearInterval(this.timer);
  }

  private async again(): Promise<void> {
    await this.look().catch(() => undefined); // the connection went away: the next look is after its return
  }

  protected abstract look(): Promise<void>;
}

class Channels {
  readonly table: Table;

  constructor(nothing: string) {
    const columns = [{ name: "Channel" }, { name: "Subscribers", number: true }, { name: "Events / s", number: true }];
    this.table = new Table("Channels", columns, nothing);
  }

  async look(feed: Feed, text: string): Promise<string> {
    const found = await feed.call<{ total: number; channels: [string, number][] }>("channels", { text });
    const most = Math.max(...found.channels.map(([, subscribers]) => subscribers), 0);
    this.table.fill(
      found.channels.map(([name, subscribers]) => [
        link(name, "channel", name),
        bar(subscribers, most, count(subscribers)),
        rate(feed.rates.get(name) ?? null),
      ]),
    );
    const shown = found.channels.length;
    if (!shown) return "";
    const all = `${count(found.total)} ${found.total === 1 ? "channel has" : "channels have"} a subscriber`;
    return found.total > shown ? `${all}; shown are the ${shown} with most of them` : all;
  }
}

class Clients {
  readonly table: Table;

  constructor(nothing: string) {
    this.table = new Table("Clients", CLIENT_COLUMNS, nothing);
  }

  async look(feed: Feed, text: string): Promise<string> {
    const { clients } = await feed.call<{ clients: ClientItem[] }>("clients", { text });
    this.table.fill(clients.map(clientRow));
    if (!clients.length) return "";
    if (clients.length >= OF_A_NODE)
      return `${count(clients.length)} of the clients that are connected, at most ${OF_A_NODE} of each node. Search finds the others, by user or id.`;
    return `${count(clients.length)} ${clients.length === 1 ? "client is" : "clients are"} connected`;
  }
}

export class ChannelsView extends Looking {
  private readonly channels = new Channels("No channel has a subscriber.");
  private readonly about = make("p", "quiet");

  constructor(feed: Feed) {
    super(feed, "Channels");
    this.root.append(el("div", "heading", make("h1", "", "Channels"), this.about), card("With a subscriber", this.channels.table.root));
  }

  protected async look(): Promise<void> {
    this.about.textContent = await this.channels.look(this.feed, "");
  }
}

export class ClientsView extends Looking {
  private readonly clients = new Clients("No client is connected.");
  private readonly about = make("p", "quiet");

  constructor(feed: Feed) {
    super(feed, "Clients");
    this.root.append(el("div", "heading", make("h1", "", "Clients"), this.about), card("Connected", this.clients.table.root));
  }

  protected async look(): Promise<void> {
    this.about.textContent = await this.clients.look(this.feed, "");
  }
}

export class SearchView extends Looking {
  private readonly channels = new Channels("No channel with a subscriber has that in its name.");
  private readonly clients = new Clients("No client that is connected has that in its user or id.");

  constructor(feed: Feed, text: string) {
    super(feed, text);
    this.root.append(
      el("div", "heading", el("p", "kind", "Found for"), make("h1", "name", text)),
      el("div", "halves", card("Clients", this.clients.table.root), card("Channels", this.channels.table.root)),
    );
  }

  protected async look(): Promise<void> {
    await Promise.all([this.clients.look(this.feed, this.title), this.channels.look(this.feed, this.title)]);
  }
}

export class LogView implements View {
  readonly title = "Log";
  readonly root = make("div", "view");
  private readonly lines = make("ul", "lines long");

  constructor(private readonly feed: Feed) {
    this.root.append(
      el("div", "heading", make("h1", "", "Log"), make("p", "quiet", "The last warnings and errors of all nodes, the newest first.")),
      el("section", "card", this.lines),
    );
    this.update();
  }

  update(): void {
    const { problems } = this.feed.lists;
    const line = (it: Problem): HTMLElement =>
      el("li", it.level, make("time", "", time(it.at)), make("span", "badge", it.source.replace("freshet.", "")), make("span", "", it.text));
    this.lines.replaceChildren(...(problems.length ? problems.map(line) : [make("li", "empty", "No warning, no error.")]));
  }
}
