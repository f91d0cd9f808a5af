// Delivery latency: from the server's publish to this page's receipt, with the offset of the two clocks removed.

const SAMPLES = 2_000; // that count for the percentiles, at most
const MEMORY = 60_000; // milliseconds for which a sample counts
const RECENT = 5_000; // milliseconds over which the rate is taken

/** Wall clock in milliseconds, with the resolution of the monotonic one. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}

/** The server's clock, as far as it can be known from here. */
export class ServerClock {
  private samples: { at: number; trip: number; offset: number }[] = [];

  /** ask: gives the server's time in milliseconds. */
  async measure(ask: () => Promise<number>, times = 7): Promise<void> {
    for (let i = 0; i < times; i++) {
      const sent = now();
      const server = await ask();
      const received = now();
      this.samples.push({ at: received, trip: received - sent, offset: server - (sent + received) / 2 });
    }
    this.samples = this.samples.filter(({ at }) => at > now() - MEMORY);
  }

  /** offset: the server's clock minus ours. error: how wrong that may be, in milliseconds, either way. */
  get(): { offset: number; error: number } {
    // The shortest round trip leaves the least room for what its two halves may differ by.
    const best = this.samples.reduce((a, b) => (b.trip < a.trip ? b : a), { trip: 0, offset: 0, ...this.samples[0] });
    return { offset: best.offset, error: best.trip / 2 };
  }
}

export class Latency {
  private samples: { at: number; raw: number }[] = [];
  private arrivals: number[] = [];

  /** Something arrived. published: by the server's clock, milliseconds. */
  add(published: number): void {
    const at = performance.now();
    this.arrivals.push(at);
    this.samples.push({ at, raw: now() - published });
  }

  /** Percentiles in milliseconds, null without samples; arrivals per second. offset: of the server's clock. */
  summary(offset: number): { p50: number | null; p95: number | null; p99: number | null; rate: number } {
    const at = performance.now();
    this.arrivals = this.arrivals.filter((arrival) => arrival > at - RECENT);
    this.samples = this.samples.slice(-SAMPLES).filter((sample) => sample.at > at - MEMORY);
    const sorted = this.samples.map(({ raw }) => raw + offset).sort((a, b) => a - b);
    const share = (part: number): number | null => sorted[Math.floor(part * sorted.length)] ?? null;
    const span = Math.max(1_000, at - (this.arrivals[0] ?? at));
    return { p50: share(0.5), p95: share(0.95), p99: share(0.99), rate: (this.arrivals.length * 1_000) / span };
  }
}
