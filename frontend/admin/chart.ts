// A chart over the last minutes, in the colours of the page.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { make } from "../src/page";
import { GAP } from "./series";

export interface Line {
  label: string;
  /** A design token, such as --accent. */
  colour: string;
  fill?: boolean;
}

const MINUTES = 5;
const SHORTEST = 60; // seconds
const HEIGHT = 168;

const token = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A token may be `light-dark(...)`, which a canvas does not know: what an element is given by it, it does. */
function colour(name: string, probe: HTMLElement): string {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

/** The columns with an empty row where nothing was measured for a while: no line is drawn across. */
function withGaps(columns: (number | null)[][]): uPlot.AlignedData {
  const [at = []] = columns as number[][];
  const rows = at.flatMap((now, index) => {
    const before = at[index - 1];
    const row = columns.map((column) => column[index] ?? null);
    return before !== undefined && now - before >= GAP ? [[before + 1, ...columns.slice(1).map(() => null)], row] : [row];
  });
  return columns.map((_, column) => rows.map((row) => row[column] ?? null)) as uPlot.AlignedData;
}

export class Chart {
  readonly root = make("figure", "card chart");
  private readonly plotted = make("div", "plot");
  private readonly legend = make("div", "legend");
  private readonly probe = make("i", "hidden");
  private plot: uPlot | null = null;
  private data: uPlot.AlignedData = [[]];

  /** least: what the scale reaches, however little there is. */
  constructor(
    title: string,
    private readonly lines: Line[],
    private readonly show: (value: number | null) => string,
    private readonly least = 4,
  ) {
    const caption = make("figcaption");
    caption.append(make("span", "", title), this.legend);
    this.root.append(caption, this.plotted, this.probe);
    for (const line of lines) {
      const item = make("span", "key", line.label);
      item.style.setProperty("--key", `var(${line.colour})`);
      item.append(make("b", "", "–"));
      this.legend.append(item);
    }
    new ResizeObserver(() => this.size()).observe(this.plotted);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redo());
    new MutationObserver(() => this.redo()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  set(at: number[], values: (number | null)[][]): void {
    this.data = withGaps([at, ...values]);
    const end = at.at(-1) ?? Date.now() / 1000;
    const begin = Math.max(end - MINUTES * 60, Math.min(at[0] ?? end, end - SHORTEST));
    if (!this.plot) this.redo();
    this.plot?.batch(() => {
      this.plot?.setData(this.data, true);
      this.plot?.setScale("x", { min: begin, max: end });
    });
    this.tell(this.plot?.cursor.idx ?? null);
  }

  /** The figures beside the title: of the place under the pointer, or of now. */
  private tell(index: number | null): void {
    this.data.slice(1).forEach((line, at) => {
      const figure = this.legend.children[at]?.querySelector("b");
      const value = (index === null ? line.at(-1) : line[index]) as number | null | undefined;
      if (figure) figure.textContent = this.show(value ?? null);
    });
  }

  private size(): void {
    const width = this.plotted.clientWidth;
    if (!width) return;
    if (this.plot) this.plot.setSize({ width, height: HEIGHT });
    else this.redo();
  }

  private redo(): void {
    this.plot?.destroy();
    this.plot = null;
    const width = this.plotted.clientWidth;
    if (!width) return;
    const grid = { stroke: colour("--line", this.probe), width: 1 };
    const axis = { stroke: colour("--quiet", this.probe), font: `11px ${token("--font")}`, ticks: { show: false } };
    this.plot = new uPlot(
      {
        width,
        height: HEIGHT,
        padding: [8, 20, 0, 0], // room for half of the last time on the axis
        cursor: { y: false, drag: { x: false, y: false } },
        legend: { show: false },
        hooks: { setCursor: [({ cursor }) => this.tell(cursor.idx ?? null)] },
        scales: { x: { time: true }, y: { range: (_, __, max) => [0, Math.max(max ?? 0, this.least) * 1.15] } },
        axes: [
          {
            ...axis,
            size: 26,
            grid: { show: false },
            space: 90,
            values: (_, splits) =>
              splits.map((at) => new Date(at * 1000).toLocaleTimeString("en-GB")),
          },
          { ...axis, grid, size: 52, space: 40, values: (_, splits) => splits.map((value) => this.show(value)) },
        ],
        series: [
          {},
          ...this.lines.map((line) => ({
            label: line.label,
            stroke: colour(line.colour, this.probe),
            width: 2,
            points: { show: false },
            fill: line.fill ? colour("--accent-soft", this.probe) : undefined,
          })),
        ],
      },
      this.data,
      this.plotted,
    );
  }
}
