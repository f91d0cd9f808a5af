// Delivery latency: from the server's publish to this page's receipt, with the offset of the two clocks removed.

const WINDOW = 10_000; // milliseconds of samples that count

/** The server's clock minus ours, in milliseconds: the sample with the shortest round trip is the most exact. */
export async function clockOffset(ask: () => Promise<number>, samples = 7): Promise<number> {
  let best = { trip: Infinity, offset: 0 };
  for (let i = 0; i < samples; i++) {
    const sent = now();
    const server = await ask();
    const received = now();
    const trip = received - sent;
    if (trip < best.trip) best = { trip, offset: server - (sent + received) / 2 };
  }
  return best.offset;
}

/** Wall clock in milliseconds, with the resolution of the monotonic one. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}

export class Latency {
  private samples: { at: number; value: number }[] = [];

  add(value: number): void {
    this.samples.push({ at: performance.now(), value });
  }

  /** p50 and p95 in milliseconds, and samples per second, over the last ten seconds. */
  summary(): { p50: number; p95: number; rate: number } | null {
    const since = performance.now() - WINDOW;
    const first = this.samples.findIndex((sample) => sample.at >= since);
    this.samples.splice(0, first < 0 ? this.samples.length : first);
    const oldest = this.samples[0];
    if (!oldest) return null;
    const sorted = this.samples.map((sample) => sample.value).sort((a, b) => a - b);
    const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
    const seconds = Math.max(1, (performance.now() - oldest.at) / 1000);
    return { p50: at(0.5), p95: at(0.95), rate: sorted.length / seconds };
  }
}
