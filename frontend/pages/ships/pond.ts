// The pond as it is, from a snapshot and what changed since, and how it looks between two ticks.

const DELAY = 80; // milliseconds: drawn that late, there is a tick before and one behind
const [WIDTH, HEIGHT, COLOURS, WAKE] = [1600, 900, 8, 26];

export interface Boat { x: number; y: number; a: number; name: string; points: number; boost: boolean; hit: number }
interface Drop { x: number; y: number; worth: number }
type Thing = Partial<Boat & Drop>;

/** Times are milliseconds by the server's clock. */
export interface Delta {
  tick: number;
  at: number;
  you?: string;
  full?: Record<string, Thing>;
  set?: Record<string, Thing>;
  gone?: string[];
}

interface Pose { at: number; x: number; y: number; a: number }
interface Pop { x: number; y: number; at: number; text: string; colour: string }

export class Pond {
  tick = 0;
  private you = "";
  private things = new Map<string, Thing>();
  private paths = new Map<string, Pose[]>();
  private wakes = new Map<string, { x: number; y: number }[]>();
  private pops: Pop[] = [];
  private colours = new Map<string, number>();
  private view = { scale: 1, left: 0, top: 0 };

  constructor(private readonly canvas: HTMLCanvasElement) {
    new ResizeObserver(() => this.fit()).observe(canvas);
  }

  take({ tick, at, you, full, set, gone }: Delta): void {
    this.tick = tick;
    if (full) {
      this.you = you ?? "";
      this.things.clear();
      this.paths.clear();
    }
    for (const [id, fields] of Object.entries(full ?? set ?? {})) {
      const before = this.things.get(id) ?? {};
      const now = { ...before, ...fields };
      if (before.points !== undefined && now.points !== undefined && now.points !== before.points) this.pop(now as Boat, now.points - before.points);
      this.things.set(id, now);
      if ("a" in now) this.move(id, now as Boat, at);
    }
    for (const id of gone ?? []) for (const known of [this.things, this.paths, this.wakes]) known.delete(id);
  }

  boats(): Boat[] {
    return [...this.things.values()].filter((it): it is Boat => "a" in it);
  }

  mine(): Boat | undefined {
    return this.things.get(this.you) as Boat | undefined;
  }

  best(): { name: string; points: number } | undefined {
    return this.things.get("best") as Boat | undefined;
  }

  /** One that no other boat has, as long as there are enough. */
  colour(name: string): number {
    const known = this.colours.get(name);
    if (known !== undefined) return known;
    const afloat = new Set(this.boats().map((it) => it.name));
    for (const other of this.colours.keys()) if (!afloat.has(other)) this.colours.delete(other);
    const taken = new Set(this.colours.values());
    let free = 0;
    for (const letter of name) free = (free * 31 + (letter.codePointAt(0) ?? 0)) % 65_521;
    free %= COLOURS;
    for (let tried = 1; taken.has(free) && tried < COLOURS; tried++) free = (free + 1) % COLOURS;
    this.colours.set(name, free);
    return free;
  }

  /** Where in the pond a point of the window is. */
  place(clientX: number, clientY: number): { x: number; y: number } {
    const { left, top } = this.canvas.getBoundingClientRect();
    const { scale, left: dx, top: dy } = this.view;
    return { x: (clientX - left - dx) / scale, y: (clientY - top - dy) / scale };
  }

  private move(id: string, { x, y, a }: Boat, at: number): void {
    const path = this.paths.get(id) ?? [];
    const last = path.at(-1);
    // It stood still until now: without this it would creep from where it stopped long ago.
    if (last && at - last.at > 200) path.push({ ...last, at: at - 34 });
    path.push({ at, x, y, a });
    this.paths.set(id, path.slice(-12));
  }

  private pop({ x, y, name }: Boat, gained: number): void {
    this.pops.push({ x, y, at: performance.now(), text: gained > 0 ? `+${gained}` : String(gained), colour: `--who-${this.colour(name)}` });
  }

  private pose(id: string, when: number): Pose | undefined {
    const path = this.paths.get(id) ?? [];
    const next = path.findIndex(({ at }) => at > when);
    const [from, to] = next < 1 ? [path.at(next), path.at(next)] : [path[next - 1], path[next]];
    if (!from || !to) return undefined;
    const part = to.at > from.at ? (when - from.at) / (to.at - from.at) : 0;
    const turn = ((to.a - from.a + 3 * Math.PI) % (2 * Math.PI)) - Math.PI;
    return { at: when, x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part, a: from.a + turn * part };
  }

  // ------------------------------------------------------------------------------------------------------- drawing

  /** The whole pond on a desk; on a phone, which is upright, the part around one's own boat. */
  private fit(): void {
    const { clientWidth, clientHeight } = this.canvas;
    this.canvas.width = clientWidth * devicePixelRatio;
    this.canvas.height = clientHeight * devicePixelRatio;
  }

  private look(me: Pose | undefined): void {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = Math.max(width / WIDTH, height / HEIGHT, 0.5);
    const centre = (size: number, whole: number, at: number): number => Math.min(0, Math.max(size - whole * scale, size / 2 - at * scale));
    this.view = { scale, left: centre(width, WIDTH, me?.x ?? WIDTH / 2), top: centre(height, HEIGHT, me?.y ?? HEIGHT / 2) };
  }

  /** now: the server's clock. */
  draw(now: number): void {
    const pen = this.canvas.getContext("2d");
    if (!pen) return;
    const styles = getComputedStyle(this.canvas);
    const colour = (name: string): string => styles.getPropertyValue(name);
    const when = now - DELAY;
    this.look(this.pose(this.you, when));
    const { scale, left, top } = this.view;
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    pen.clearRect(0, 0, this.canvas.clientWidth, this.canvas.clientHeight);
    pen.translate(left, top);
    pen.scale(scale, scale);
    this.ripples(pen, styles.color);
    const boats: [string, Boat, Pose][] = [];
    for (const [id, it] of this.things) {
      if ("worth" in it) drop(pen, it as Drop, now, styles.accentColor);
      const pose = "a" in it ? this.pose(id, when) : undefined;
      if (pose) boats.push([id, it as Boat, pose]);
    }
    for (const [id, it, pose] of boats) this.wake(pen, id, pose, colour(`--who-${this.colour(it.name)}`));
    for (const [id, it, pose] of boats) boat(pen, it, pose, colour(`--who-${this.colour(it.name)}`), styles.color, id === this.you);
    this.pops = this.pops.filter((it) => performance.now() - it.at < 900);
    for (const it of this.pops) {
      const age = (performance.now() - it.at) / 900;
      pen.globalAlpha = 1 - age;
      pen.font = "700 26px system-ui";
      pen.fillStyle = styles.color;
      pen.fillText(it.text, it.x, it.y - 34 - 40 * age);
    }
    pen.globalAlpha = 1;
  }

  private ripples(pen: CanvasRenderingContext2D, ink: string): void {
    pen.strokeStyle = ink;
    pen.globalAlpha = 0.07;
    pen.lineWidth = 2;
    for (let y = 60; y < HEIGHT; y += 90)
      for (let x = (y / 90) % 2 < 1 ? 50 : 130; x < WIDTH; x += 160) {
        pen.beginPath();
        pen.moveTo(x, y);
        pen.quadraticCurveTo(x + 12, y - 8, x + 24, y);
        pen.quadraticCurveTo(x + 36, y + 8, x + 48, y);
        pen.stroke();
      }
    pen.globalAlpha = 1;
  }

  private wake(pen: CanvasRenderingContext2D, id: string, { x, y }: Pose, colour: string): void {
    const wake = this.wakes.get(id) ?? [];
    wake.push({ x, y });
    if (wake.length > WAKE) wake.shift();
    this.wakes.set(id, wake);
    pen.strokeStyle = colour;
    pen.lineCap = "butt";
    wake.slice(1).forEach((to, index) => {
      const from = wake[index];
      if (!from || Math.hypot(to.x - from.x, to.y - from.y) > 120) return;
      pen.globalAlpha = (0.32 * index) / WAKE;
      pen.lineWidth = 4 + (14 * (WAKE - index)) / WAKE;
      pen.beginPath();
      pen.moveTo(from.x, from.y);
      pen.lineTo(to.x, to.y);
      pen.stroke();
    });
    pen.globalAlpha = 1;
  }
}

function drop(pen: CanvasRenderingContext2D, { x, y, worth }: Drop, now: number, colour: string): void {
  const size = (worth > 1 ? 17 : 10) + Math.sin(now / 400 + x) * 1.2;
  pen.fillStyle = colour;
  pen.globalAlpha = 0.18;
  pen.beginPath();
  pen.arc(x, y + 2, size * 1.8, 0, 7);
  pen.fill();
  pen.globalAlpha = 1;
  pen.beginPath();
  pen.moveTo(x, y - size * 1.5);
  pen.bezierCurveTo(x + size * 0.4, y - size * 0.8, x + size, y - size * 0.2, x + size, y + size * 0.3);
  pen.arc(x, y + size * 0.3, size, 0, Math.PI);
  pen.bezierCurveTo(x - size, y - size * 0.2, x - size * 0.4, y - size * 0.8, x, y - size * 1.5);
  pen.fill();
}

/** A folded paper boat from above, with its name. */
function boat(pen: CanvasRenderingContext2D, it: Boat, { x, y, a }: Pose, colour: string, ink: string, mine: boolean): void {
  pen.save();
  pen.translate(x, y);
  if (mine) {
    pen.strokeStyle = colour;
    pen.globalAlpha = 0.5;
    pen.lineWidth = 3;
    pen.setLineDash([6, 8]);
    pen.beginPath();
    pen.arc(0, 0, 44, 0, 7);
    pen.stroke();
    pen.setLineDash([]);
    pen.globalAlpha = 1;
  }
  pen.save();
  pen.rotate(a);
  const shape = (points: number[][], fill: string): void => {
    pen.fillStyle = fill;
    pen.beginPath();
    points.forEach(([px = 0, py = 0]) => pen.lineTo(px, py));
    pen.closePath();
    pen.fill();
  };
  pen.shadowColor = "rgb(0 0 0 / 30%)";
  pen.shadowBlur = 8;
  shape([[34, 0], [8, 17], [-26, 14], [-20, 0], [-26, -14], [8, -17]], "#fff");
  pen.shadowBlur = 0;
  shape([[27, 0], [6, 12], [-19, 10], [-14, 0], [-19, -10], [6, -12]], colour);
  shape([[12, 0], [-4, 6.5], [-12, 0], [-4, -6.5]], "#fff");
  if (it.boost) shape([[-28, 6], [-46, 0], [-28, -6]], colour);
  pen.restore();
  pen.font = `${mine ? 700 : 600} 19px system-ui`;
  pen.textAlign = "center";
  pen.fillStyle = ink;
  pen.fillText(it.name, 0, 50);
  pen.restore();
}
