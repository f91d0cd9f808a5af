// The state of a connection and its latency, shown where a page has places for them.

import type { Centrifuge } from "centrifuge";
import { Latency, now, ServerClock } from "./latency";
import { count, element } from "./page";

const AGAIN = 15_000; // milliseconds between two looks at the server's clock

/** The page has #state, #p50, #p95 and #rate. */
export class Meter {
  private readonly latency = new Latency();
  private readonly clock = new ServerClock();
  protected connected = false; // once, at least

  constructor(protected readonly client: Centrifuge) {
    client.on("connecting", ({ reason }) => {
      if (this.connected) this.say("lost", "Lost. Retrying…", reason);
      else this.say("connecting", "Connecting…");
    });
    client.on("disconnected", ({ reason }) => this.say("lost", "Disconnected", reason));
    client.on("connected", () => {
      this.connected = true;
      this.say("live", "Live");
      void this.measureClock();
    });
    // A page that a browser keeps for the way back is not here any more, and says so.
    window.addEventListener("pagehide", () => client.disconnect());
    window.addEventListener("pageshow", ({ persisted }) => persisted && client.connect());
    setInterval(() => this.show(), 500);
    setInterval(() => void this.measureClock(), AGAIN);
  }

  /** The server's clock, in milliseconds. */
  serverNow(): number {
    return now() + this.clock.get().offset;
  }

  /** What was taken off this page's clock to have the server's, and how wrong that may be; milliseconds. */
  clockError(): { offset: number; error: number } {
    return this.clock.get();
  }

  /** Something arrived. at: when the server published it, milliseconds. */
  add(at: number): void {
    this.latency.add(at);
  }

  /** why: what a pointer on the state says. */
  protected say(state: "connecting" | "live" | "lost", text: string, why = ""): void {
    const line = element("state");
    line.title = why;
    line.dataset.state = state;
    if (line.textContent !== text) line.textContent = text;
  }

  protected show(): void {
    const { offset, error } = this.clock.get();
    const { p50, p95, rate } = this.latency.summary(offset);
    const milliseconds = (value: number | null): string =>
      value === null ? "–" : value > error ? `${value.toFixed(1)} ms` : `< ${Math.max(0.1, error).toFixed(1)} ms`;
    element("p50").textContent = milliseconds(p50);
    element("p95").textContent = milliseconds(p95);
    element("rate").textContent = count(rate);
  }

  private async measureClock(): Promise<void> {
    if (this.client.state !== "connected") return;
    try {
      await this.clock.measure(async () => (await this.client.rpc("clock", null)).data as number);
    } catch {
      // The connection went away meanwhile; the next one measures again.
    }
  }
}
