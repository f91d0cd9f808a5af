const e=`// The flash sale: a countdown, and a stock that cannot be oversold.

import type { Centrifuge } from "centrifuge";
import { element, make } from "../../src/page";
import type { Status } from "../../src/status";
import type { Clock } from "./clock";

const SALE = "sale:flash";
const STOCK = "stock:lamp";

interface Schedule { starts: number; ends: number; at: number }
interface Stock { left: number; reserved: number; sold: number; total: number; low: boolean; at: number }
/** until: seconds of the epoch. */
interface Hold { id: string; until: number }

export class Shop {
  private schedule: Schedule | null = null;
  private stock: Stock | null = null;
  private held: Hold | null = null;
  private bought = 0;
  private refused = "";

  constructor(
    private readonly client: Centrifuge,
    private readonly status: Status,
    clock: Clock,
  ) {
    element("reserve").addEventListener("click", () => void this.ask("reserve"));
    element("buy").addEventListener("click", () => void this.ask("commit"));
    element("release").addEventListener("click", () => void this.ask("release"));
    clock.each((now) => this.draw(now));
  }

  open(): void {
    const [sale, stock] = [this.client.newSubscription(SALE), this.client.newSubscription(STOCK)];
    this.status.follow<Schedule>(sale, (data) => {
      if (data.ends !== this.schedule?.ends) this.bought = 0;
      this.schedule = data;
    });
    this.status.follow<Stock>(stock, (data) => {
      this.stock = data;
      this.show(data);
    });
    sale.subscribe();
    stock.subscribe();
  }

  private async ask(what: "reserve" | "commit" | "release"): Promise<void> {
    this.refused = "";
    try {
      const request = what === "reserve" ? { do: what, id: crypto.randomUUID?.() ?? String(Math.random()) } : { do: what, id: this.held?.id };
      const { data } = await this.client.rpc(STOCK, request);
      this.held = what === "reserve" ? (data as Hold) : null;
      if (what === "commit") this.bought++;
    } catch (error) {
      this.refused = (error as { message: string }).message;
      if (what !== "reserve") this.held = null;
    }
  }

  private show({ left, reserved, sold, total }: Stock): void {
    const kinds = [...Array<string>(sold).fill("sold"), ...Array<string>(reserved).fill("reserved"), ...Array<string>(left).fill("left")];
    element("stock").replaceChildren(...kinds.slice(0, total).map((kind) => make("i", kind)));
  }

  private draw(now: number): void {
    const { starts, ends } = this.schedule ?? { starts: 0, ends: 0 };
    const phase = now < starts ? "soon" : now < ends ? "open" : "over";
    if (this.held && this.held.until * 1000 <= now) this.held = null;
    const left = Math.max(0, (phase === "soon" ? starts : ends) - now);
    element("phase").dataset.phase = phase;
    text("phase", { soon: "Soon", open: "Open", over: "Over" }[phase]);
    text("until", phase === "soon" ? "opens in" : phase === "open" ? "ends in" : "it is over");
    text("timer", \`\${Math.floor(left / 60_000)}:\${String(Math.floor(left / 1_000) % 60).padStart(2, "0")}.\${Math.floor(left / 100) % 10}\`);
    const some = this.stock?.left ?? 0;
    element("stock").classList.toggle("closed", phase !== "open");
    const few = element("few");
    few.classList.toggle("low", phase === "open" && (this.stock?.low ?? false));
    text("few", phase === "soon" ? "Twelve new lamps are on their way." : !some ? "Sold out." : this.stock?.low ? \`Only \${some} left!\` : \`\${some} left.\`);
    element<HTMLButtonElement>("reserve").disabled = phase !== "open" || !some;
    element("reserve").hidden = this.held !== null;
    element("buy").hidden = element("release").hidden = this.held === null;
    text("hold", this.say(now));
  }

  private say(now: number): string {
    if (this.held) return \`Yours for \${Math.ceil((this.held.until * 1000 - now) / 1000)} s: nobody else can have it.\`;
    if (this.refused) return \`Not this time: \${this.refused}.\`;
    if (this.bought) return \`You have bought \${this.bought === 1 ? "a lamp" : \`\${this.bought} lamps\`}.\`;
    return "Who reserves a lamp has 15 seconds to buy it. No lamp is ever promised twice.";
  }
}

/** Changed only when it differs: a frame comes 60 times a second. */
function text(name: string, value: string): void {
  const it = element(name);
  if (it.textContent !== value) it.textContent = value;
}
`;export{e as default};
