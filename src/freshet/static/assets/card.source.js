const e=`// One way on the page: what was measured, and a strip of what arrived in the last seconds.

import { Latency } from "../../src/latency";
import { count, make } from "../../src/page";
import type { Subscriber, Message, Way } from "./ways";

const SPAN = 10_000; // milliseconds that the strip shows
const HEIGHT = 108; // pixels
const FOOT = 16; // pixels of them, for the time
const SIDE = 46; // pixels at the left, for the latency
const SCALE = [1, 10, 100, 1_000]; // milliseconds that are labelled, on a scale of powers of ten
const FIGURES = ["Latency p50", "Latency p95", "Latency p99", "Bytes per message", "Messages", "Requests", "Reconnects", "Missed, then recovered", "Lost or repeated"];

interface Arrival {
  at: number;
  latency: number;
  missed: boolean;
}

export class Card implements Subscriber {
  private readonly latency = new Latency();
  private readonly cells: HTMLElement[];
  private readonly status = make("p", "state", "Connecting…");
  private readonly canvas = make("canvas");
  private readonly button = make("button", "", "Cut for 5 s");
  private arrivals: Arrival[] = [];
  private messages = 0;
  private recovered = 0;
  private wrong = 0;
  private last = 0;
  private live = false;

  constructor(parent: HTMLElement, name: string, line: string, cut: () => void) {
    const card = make("section", "way");
    card.setAttribute("aria-label", name);
    const head = make("div", "row");
    this.button.type = "button";
    this.button.setAttribute("aria-label", \`Cut for 5 s: \${name}\`);
    this.button.addEventListener("click", cut);
    head.append(make("h2", "", name), this.button);
    this.status.dataset.state = "connecting";
    this.canvas.setAttribute("aria-hidden", "true");
    const figures = make("dl");
    this.cells = FIGURES.map((figure) => {
      const cell = make("dd", "", "–");
      cell.dataset.figure = figure;
      const pair = make("div");
      pair.append(make("dt", "", figure), cell);
      figures.append(pair);
      return cell;
    });
    const legend = make("p", "legend");
    legend.append("Latency of a message: ", make("span", "", "live"), " ", make("span", "late", "from the log"));
    card.append(head, this.status, legend, this.canvas, figures, make("p", "note", line));
    parent.append(card);
  }

  state(live: boolean, why = ""): void {
    this.live = live;
    this.status.dataset.state = live ? "live" : "lost";
    this.status.textContent = live ? "Live" : why;
    this.button.disabled = !live;
  }

  get isLive(): boolean {
    return this.live;
  }

  take(message: Message, missed: boolean): void {
    if (this.last && message.n !== this.last + 1) this.wrong++;
    this.last = message.n;
    this.messages++;
    if (missed) this.recovered++;
    else this.latency.add(message.at);
    this.arrivals.push({ at: performance.now(), latency: performance.timeOrigin + performance.now() - message.at, missed });
  }

  /** Another flow: what was measured of the last one does not count. */
  reset(): void {
    Object.assign(this, { latency: new Latency(), arrivals: [], messages: 0, recovered: 0, wrong: 0, last: 0 });
  }

  /** offset: of the server's clock, milliseconds. */
  show(way: Way, offset: number): void {
    const { p50, p95, p99 } = this.latency.summary(offset);
    const time = (value: number | null): string => (value === null ? "–" : \`\${Math.max(0, value).toFixed(1)} ms\`);
    const each = this.messages ? count(way.bytes / this.messages) : "–";
    const counts = [this.messages, way.requests, way.reconnects, this.recovered, this.wrong].map(count);
    [time(p50), time(p95), time(p99), each, ...counts].forEach((text, index) => {
      const cell = this.cells[index];
      if (cell && cell.textContent !== text) cell.textContent = text;
    });
  }

  /** The strip: each message where it came in time, as high as it was late. */
  draw(offset: number): void {
    const width = this.canvas.clientWidth;
    const scale = window.devicePixelRatio;
    if (this.canvas.width !== Math.round(width * scale)) {
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = HEIGHT * scale;
    }
    const context = this.canvas.getContext("2d");
    if (!context) return;
    const style = getComputedStyle(this.canvas);
    const [usual, recovered] = [style.getPropertyValue("color"), style.getPropertyValue("outline-color")];
    const at = performance.now();
    this.arrivals = this.arrivals.filter((arrival) => arrival.at > at - SPAN);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, HEIGHT);
    axes(context, width, style);
    for (const { at: came, latency, missed } of this.arrivals) {
      const x = width - ((at - came) / SPAN) * (width - SIDE);
      const top = heightOf(latency + offset);
      context.fillStyle = missed ? recovered : usual;
      context.fillRect(x - 1, top, 2, HEIGHT - FOOT - top);
    }
  }
}

/** Where a latency is on the strip, in pixels from its top. */
function heightOf(latency: number): number {
  const part = Math.log10(1 + Math.max(0, latency)) / Math.log10(1 + Math.max(...SCALE));
  return Math.min(HEIGHT - FOOT - 3, 6 + (1 - Math.min(1, part)) * (HEIGHT - FOOT - 6));
}

function axes(context: CanvasRenderingContext2D, width: number, style: CSSStyleDeclaration): void {
  context.font = \`11px \${style.fontFamily}\`;
  context.textBaseline = "middle";
  for (const latency of SCALE) {
    const y = Math.round(heightOf(latency)) + 0.5;
    context.fillStyle = style.getPropertyValue("border-top-color");
    context.fillRect(SIDE, y, width - SIDE, 1);
    context.fillStyle = style.getPropertyValue("text-decoration-color");
    context.textAlign = "right";
    context.fillText(latency < 1_000 ? \`\${latency} ms\` : "1 s", SIDE - 5, y);
  }
  context.textAlign = "left";
  context.fillText("10 s ago", SIDE, HEIGHT - FOOT / 2);
  context.textAlign = "right";
  context.fillText("now", width, HEIGHT - FOOT / 2);
}
`;export{e as default};
