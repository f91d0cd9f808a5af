// The bar above a demo: what is measured, the button that cuts the connection, and what a cut made it miss.

import type { Centrifuge, PublicationContext, Subscription } from "centrifuge";
import { beside } from "./beside";
import { Meter } from "./meter";
import { count, element } from "./page";

const CUT = 5_000; // milliseconds
const NOTICED = 300; // milliseconds away that are worth a word
const TRANSPORTS: Record<string, string> = { websocket: "WebSocket", sse: "SSE", http_stream: "HTTP stream" };

type Take<T> = (data: T, context: PublicationContext, recovered: boolean) => void;

/** The page has parts/demo.html. */
export class Status extends Meter {
  /** Runs before the visitor's connection is cut. */
  beforeCut: () => Promise<unknown> = () => Promise.resolve();
  private total = 0;
  private leftAt = 0; // milliseconds; 0: it is here
  private away = 0; // how long the last absence was, milliseconds
  private missed = 0;
  private recovered = 0;
  private forgotten = 0; // channels whose log did not reach back
  private logs = 0; // channels that keep one

  /** things: what is published, in the plural: "messages". */
  constructor(
    client: Centrifuge,
    private readonly things: string,
  ) {
    super(client);
    const button = element<HTMLButtonElement>("cut");
    button.addEventListener("click", () => void this.cut(button));
    client.on("connecting", () => this.left());
    client.on("disconnected", () => this.left());
    client.on("connected", ({ transport }) => {
      element("transport").textContent = TRANSPORTS[transport] ?? transport;
      button.disabled = false;
      this.back();
    });
    beside();
  }

  /** Listen to a channel: count, measure, and hand on each publication, with whether it was missed and recovered. */
  follow<T extends { at: number }>(subscription: Subscription, take: Take<T>): void {
    let [epoch, seen, behind] = ["", 0, 0];
    subscription.on("subscribed", ({ wasRecovering, recovered, streamPosition: position }) => {
      behind = 0;
      if (!position) return;
      if (!epoch) this.logs++;
      if (wasRecovering) {
        const missed = position.epoch === epoch ? position.offset - seen : 0; // another log: nobody knows
        this.missed += missed;
        if (recovered) behind = missed;
        else this.forgotten++;
        this.report();
      }
      epoch = position.epoch;
      if (!behind) seen = position.offset;
    });
    subscription.on("unsubscribed", () => {
      if (epoch) this.logs--;
      epoch = "";
    });
    subscription.on("publication", (context) => {
      const late = behind > 0; // the recovered ones come first
      const data = context.data as T;
      seen = context.offset ?? seen;
      this.total++;
      if (!late) this.add(data.at);
      take(data, context, late);
      if (!late) return;
      behind--;
      this.recovered++;
      this.report();
    });
  }

  protected override show(): void {
    super.show();
    element("total").textContent = count(this.total);
  }

  private async cut(button: HTMLButtonElement): Promise<void> {
    button.disabled = true;
    await this.beforeCut().catch(() => undefined);
    this.client.disconnect();
    const end = performance.now() + CUT;
    const tick = (): void => {
      const left = Math.ceil((end - performance.now()) / 1000);
      if (left > 0) {
        this.say("lost", `Cut. Back in ${left} s.`);
      } else {
        clearInterval(timer);
        this.client.connect();
      }
    };
    const timer = setInterval(tick, 200);
    tick();
  }

  private left(): void {
    if (this.connected && !this.leftAt) this.leftAt = performance.now();
  }

  private back(): void {
    this.away = this.leftAt ? performance.now() - this.leftAt : 0;
    this.leftAt = this.missed = this.recovered = this.forgotten = 0;
    this.report();
  }

  private report(): void {
    const { missed, recovered, forgotten } = this;
    if (this.away < NOTICED && !missed) return;
    element("missed").textContent = count(missed);
    element("recovered").textContent = count(recovered);
    const report = element("report");
    report.textContent = `You were away for ${(this.away / 1000).toFixed(1)} s. ${this.verdict()}`;
    report.dataset.verdict = forgotten ? "lost" : missed && recovered === missed ? "whole" : "";
  }

  private verdict(): string {
    const { missed, recovered, forgotten, logs, things } = this;
    if (!logs) return `What happened meanwhile is not kept here, on purpose: of ${things}, only the latest counts.`;
    if (forgotten) {
      const log = forgotten === 1 ? "The channel's log no longer reaches" : `The logs of ${forgotten} channels no longer reach`;
      return `${log} back to where you were, and the server says so (recovered: false), instead of passing off a part as the whole.`;
    }
    if (!missed) return `No ${things} were published meanwhile.`;
    if (recovered < missed) return `${count(recovered)} of ${count(missed)} ${things} are here…`;
    return `${count(missed)} ${things} were published meanwhile; all of them came from the log, in order.`;
  }
}
