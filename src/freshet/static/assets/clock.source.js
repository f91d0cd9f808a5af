const t=`// The server's clock on the screen: corrected for the difference of the two clocks, and for the way of the answer.

import { element } from "../../src/page";
import type { Status } from "../../src/status";

type Tick = (now: number) => void;

export class Clock {
  private readonly ticks: Tick[] = [];

  constructor(private readonly status: Status) {
    const tick = (): void => {
      const now = this.now();
      for (const each of this.ticks) each(now);
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
    setInterval(() => this.show(), 500);
  }

  /** Milliseconds of the epoch, as the server has them. */
  now(): number {
    return this.status.serverNow();
  }

  /** With every frame. */
  each(tick: Tick): void {
    this.ticks.push(tick);
  }

  private show(): void {
    const { offset, error } = this.status.clockError();
    element("offset").textContent = Math.abs(offset) < 1_000 ? \`\${(Math.round(10 * offset) / 10 || 0).toFixed(1)} ms\` : \`\${(offset / 1_000).toFixed(1)} s\`;
    element("error").textContent = \`± \${Math.max(0.1, error).toFixed(1)} ms\`;
  }
}
`;export{t as default};
