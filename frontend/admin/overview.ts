// The first view: is all well, and if not, where.

import { element, make } from "../src/page";
import { Chart } from "./chart";
import type { Feed } from "./feed";
import { age, bytes, count, duration, NOTHING, rate, time } from "./format";
import { bar, card, clientRow, CLIENT_COLUMNS, el, link, Table } from "./parts";
import { perSecond, points, quantiles } from "./series";
import type { View } from "./view";

const BUSIEST = 12;

export class Overview implements View {
  readonly title = "Overview";
  readonly root = make("div", "view");
  private readonly figures = new Map<string, HTMLElement>();
  private readonly connections = new Chart("Connections", [{ label: "now", colour: "--accent", fill: true }], count);
  private readonly messages = new Chart(
    "Messages / s",
    [
      { label: "delivered", colour: "--accent", fill: true },
      { label: "published", colour: "--down" },
    ],
    rate,
  );
  private readonly latency = new Chart(
    "Latency",
    [
      { label: "p99", colour: "--down" },
      { label: "p95", colour: "--who" },
      { label: "p50", colour: "--accent" },
    ],
    duration,
    0.01,
  );
  private readonly channels = new Table(
    "The busiest channels",
    [{ name: "Channel" }, { name: "Subscribers", number: true }, { name: "Events / s", number: true }],
    `No channel has a subscriber. Clients connect to ${new URL("../connection/websocket", location.href.replace(/[?#].*/, "")).href.replace(/^http/, "ws")}.`,
  );
  private readonly slow = new Table("Slow clients", CLIENT_COLUMNS, "Nobody is slow: every client has read all that was sent to it.");
  private readonly nodes = new Table(
    "Nodes",
    [
      { name: "Node" },
      { name: "State" },
      { name: "Up", number: true, wide: true },
      { name: "Clients", number: true },
      { name: "Delivered / s", number: true, wide: true },
      { name: "Loop late, p99", number: true, wide: true },
      { name: "CPU", number: true },
      { name: "Memory", number: true, wide: true },
    ],
    "No node has answered yet.",
  );
  private readonly problems = make("ul", "lines");

  constructor(private readonly feed: Feed) {
    const tiles = el("dl", "tiles");
    for (const name of ["Connections", "Delivered / s", "Latency p99", "Subscriptions", "Sent / s", "CPU"]) {
      const value = make("dd", "", NOTHING);
      this.figures.set(name, value);
      tiles.append(el("div", "", make("dt", "", name), value, make("dd", "small")));
    }
    this.root.append(
      make("h1", "hidden", "Overview"),
      tiles,
      el("div", "charts", this.connections.root, this.messages.root, this.latency.root),
      card("Nodes", this.nodes.root),
      el(
        "div",
        "halves",
        card("Busiest channels", this.channels.root),
        el("div", "side", card("Slow clients", this.slow.root), card("Lately in the log", this.problems)),
      ),
    );
    this.update();
  }

  update(): void {
    const { samples, lists } = this.feed;
    const last = samples.at(-1);
    if (!last) return;
    const line = points(samples);
    const now = line.at(-1);
    const at = line.map((point) => point.at);
    const sum = (of: "outbox" | "subscriptions"): number =>
      last.nodes.reduce((all, node) => all + node[of], 0);
    const arriving = now?.arriving
      ? `+${rate(now.arriving)} / s, ${rate(now.returning)} came back`
      : `${last.estimated ? "about " : ""}${count(last.users)} ${last.users === 1 ? "user" : "users"}`;
    this.figure("Connections", count(now?.connections), arriving);
    const channels = Math.max(...last.nodes.map((node) => node.channels), 0);
    this.figure("Subscriptions", count(sum("subscriptions")), `in ${count(channels)} ${channels === 1 ? "channel" : "channels"}`);
    this.figure("Delivered / s", rate(now?.delivered), `${rate(now?.published)} published`);
    this.figure("Sent / s", now?.out == null ? NOTHING : bytes(Math.round(now.out)), `${bytes(sum("outbox"))} queued`);
    this.figure("CPU", now?.cpu == null ? NOTHING : `${Math.round(now.cpu * 100)} %`, `${bytes(now?.memory ?? 0)} memory`);
    this.connections.set(at, [line.map((point) => point.connections)]);
    this.messages.set(at, [line.map((point) => point.delivered), line.map((point) => point.published)]);
    const { bounds } = this.feed.about;
    const late = [0.99, 0.95, 0.5].map((share) => quantiles(samples, (node) => node.latency, bounds, share));
    this.latency.set(at, late);
    const [p99, , p50] = late.map((line) => line.at(-1) ?? null);
    this.figure("Latency p99", duration(p99), p50 == null ? "nothing delivered" : `p50 ${duration(p50)}`);
    this.list();
    this.slow.fill(lists.slow.map(clientRow));
    const before = samples.at(-2);
    this.nodes.fill(
      last.nodes.map((node) => [
        el("span", "mono", `${node.host}:${node.process}`),
        el("span", `badge ${node.state === "ready" ? "good" : "warn"}`, node.state),
        age(node.uptime),
        count(node.clients),
        rate(perSecond((it) => (it.id === node.id ? it.delivered : 0), before, last)),
        duration(quantiles(samples.slice(-12), (it) => (it.id === node.id ? it.lag : []), bounds, 0.99).at(-1)),
        `${Math.round(100 * (perSecond((it) => (it.id === node.id ? it.cpu : 0), before, last) ?? 0))} %`,
        bytes(node.memory),
      ]),
    );
    const lines = lists.problems.slice(0, 6).map((it) =>
      el("li", it.level, make("time", "", time(it.at)), make("span", "", it.text)),
    );
    this.problems.replaceChildren(...(lines.length ? lines : [make("li", "empty", "No warning, no error.")]));
  }

  private list(): void {
    const { lists, rates } = this.feed;
    const most = Math.max(...lists.channels.map(([, subscribers]) => subscribers), 0);
    const busiest = [...lists.channels].sort(
      ([one, a], [other, b]) => (rates.get(other) ?? 0) - (rates.get(one) ?? 0) || b - a || one.localeCompare(other),
    );
    this.channels.fill(
      busiest
        .slice(0, BUSIEST)
        .map(([name, subscribers]) => [
          link(name, "channel", name),
          bar(subscribers, most, count(subscribers)),
          rate(rates.get(name) ?? null),
        ]),
    );
  }

  private figure(name: string, value: string, note: string): void {
    const figure = this.figures.get(name);
    if (!figure) return;
    figure.textContent = value;
    const small = figure.nextElementSibling;
    if (small) small.textContent = note;
  }

  close(): void {
    element("main").focus({ preventScroll: true });
  }
}
