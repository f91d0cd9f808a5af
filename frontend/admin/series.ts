// What is drawn: rates and percentiles, from the counters of all nodes.

import type { NodeNumbers, Sample } from "./feed";

const WINDOW = 10; // samples over which a percentile is taken

/** Seconds without a sample: nothing is measured while nobody looks. */
export const GAP = 5;

export interface Point {
  at: number;
  connections: number;
  published: number | null;
  delivered: number | null;
  arriving: number | null;
  returning: number | null;
  out: number | null;
  cpu: number | null;
  memory: number;
}

type Counter = (node: NodeNumbers) => number;

/** What a counter rose by per second, of those nodes that were there before; null: none was. */
export function perSecond(counter: Counter, before: Sample | undefined, after: Sample): number | null {
  if (!before) return null;
  const passed = after.at - before.at;
  let sum = 0;
  let known = false;
  for (const node of after.nodes) {
    const earlier = before.nodes.find(({ id }) => id === node.id);
    if (!earlier) continue;
    known = true;
    sum += Math.max(0, counter(node) - counter(earlier));
  }
  return known && passed > 0 ? sum / passed : null;
}

export function points(samples: Sample[]): Point[] {
  return samples.map((sample, index) => {
    const earlier = samples[index - 1];
    const before = earlier && sample.at - earlier.at < GAP ? earlier : undefined;
    return {
      at: sample.at,
      connections: sample.nodes.reduce((sum, node) => sum + node.clients, 0),
      published: perSecond((node) => node.published, before, sample),
      delivered: perSecond((node) => node.delivered, before, sample),
      arriving: perSecond((node) => node.connected, before, sample),
      returning: perSecond((node) => node.returned, before, sample),
      out: perSecond((node) => node.sent_bytes, before, sample),
      cpu: perSecond((node) => node.cpu, before, sample),
      memory: sample.nodes.reduce((sum, node) => sum + node.memory, 0),
    };
  });
}

/** The value below which a share of what a histogram counted is, in the unit of its bounds; null: nothing was. */
export function quantile(counts: number[], bounds: number[], share: number): number | null {
  const all = counts.reduce((a, b) => a + b, 0);
  if (!all) return null;
  let rest = share * all;
  for (const [index, number] of counts.entries()) {
    if (rest <= number && number > 0) {
      const low = index ? (bounds[index - 1] ?? 0) : 0;
      const high = bounds[index] ?? low;
      return low + (high - low) * (rest / number);
    }
    rest -= number;
  }
  return bounds.at(-1) ?? null;
}

/** A percentile of a histogram of all nodes, at each sample, over the samples just before it. */
export function quantiles(
  samples: Sample[],
  histogram: (node: NodeNumbers) => number[],
  bounds: number[],
  share: number,
): (number | null)[] {
  return samples.map((sample, index) => {
    const before = samples[Math.max(0, index - WINDOW)];
    if (!before || before === sample) return null;
    const counts: number[] = Array<number>(bounds.length + 1).fill(0);
    for (const node of sample.nodes) {
      const earlier = before.nodes.find(({ id }) => id === node.id);
      const now = histogram(node);
      const then = earlier ? histogram(earlier) : [];
      now.forEach((value, at) => (counts[at] = (counts[at] ?? 0) + Math.max(0, value - (then[at] ?? 0))));
    }
    return quantile(counts, bounds, share);
  });
}
