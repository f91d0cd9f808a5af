// The table: quotes are noted as they come and drawn once per frame.

export interface Quote {
  symbol: string;
  price: number;
  open: number;
  volume: number;
  at: number;
}

/** past: [at, price] of the last 30 seconds, oldest first. */
export interface Stock {
  symbol: string;
  name: string;
  past: [number, number][];
}

const SPAN = 30_000; // milliseconds of a sparkline
const SPACING = 500; // milliseconds between two of its points
const FLASH = 100; // milliseconds before a flash fades
const CALM = 900; // milliseconds between two flashes of a row: at ten updates a second it would never be off

const price = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const volume = new Intl.NumberFormat("en");

class Row {
  latest: Quote | null = null;
  past: [number, number][];
  private readonly priceCell = cell("number price", "–");
  private readonly changeCell = cell("number change", "–");
  private readonly volumeCell = cell("number volume", "–");
  private readonly canvas = document.createElement("canvas");
  private drawn = 0;
  private shown = 0;
  private flashedAt = 0;

  constructor({ symbol, name, past }: Stock, body: HTMLElement) {
    this.past = past;
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = symbol;
    this.canvas.setAttribute("aria-hidden", "true");
    const spark = cell("spark");
    spark.append(this.canvas);
    row.append(head, cell("name", name), this.priceCell, this.changeCell, spark, this.volumeCell);
    body.append(row);
  }

  /** frame: this page's clock, milliseconds. now: the server's. */
  draw(frame: number, now: number): void {
    const quote = this.latest;
    if (!quote) return;
    if (frame - this.flashedAt > FLASH) this.priceCell.classList.remove("up", "down");
    if (quote.price !== this.shown) this.showPrice(quote, frame);
    if (frame - this.drawn < SPACING) return;
    this.drawn = frame;
    this.past.push([quote.at, quote.price]);
    this.past = this.past.filter(([at]) => at > now - SPAN - SPACING);
    this.volumeCell.textContent = volume.format(quote.volume);
    this.drawSpark(now);
  }

  private showPrice(quote: Quote, frame: number): void {
    if (this.shown && frame - this.flashedAt > CALM * (0.6 + Math.random())) {
      this.priceCell.classList.toggle("up", quote.price > this.shown);
      this.priceCell.classList.toggle("down", quote.price < this.shown);
      this.flashedAt = frame;
    }
    this.shown = quote.price;
    this.priceCell.textContent = price.format(quote.price);
    const change = (quote.price / quote.open - 1) * 100;
    const direction = change >= 0 ? "up" : "down";
    this.changeCell.dataset.direction = direction;
    this.changeCell.textContent = `${direction === "up" ? "▲" : "▼"} ${Math.abs(change).toFixed(2)} %`;
  }

  /** Points are where their times are: at the right is now. Its colour says how it went in what it shows, not since the opening. */
  private drawSpark(now: number): void {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const context = this.canvas.getContext("2d");
    this.canvas.width = width * devicePixelRatio;
    this.canvas.height = height * devicePixelRatio;
    if (!context || this.past.length < 2) return;
    const prices = this.past.map(([, value]) => value);
    this.canvas.dataset.direction = (prices.at(-1) ?? 0) >= (prices[0] ?? 0) ? "up" : "down";
    const low = Math.min(...prices);
    const range = Math.max(...prices) - low || 1;
    context.scale(devicePixelRatio, devicePixelRatio);
    context.strokeStyle = getComputedStyle(this.canvas).color;
    context.lineWidth = 1.5;
    context.lineJoin = "round";
    context.beginPath();
    for (const [at, value] of this.past) {
      context.lineTo(width - 1 - ((now - at) / SPAN) * (width - 2), height - 3 - ((value - low) / range) * (height - 6));
    }
    context.stroke();
  }
}

function cell(className: string, text = ""): HTMLTableCellElement {
  const made = document.createElement("td");
  made.className = className;
  made.textContent = text;
  return made;
}

/** serverNow: the server's clock in milliseconds, by which quotes are dated. */
export class Board {
  private readonly rows = new Map<string, Row>();

  constructor(body: HTMLElement, stocks: Stock[], serverNow: () => number) {
    for (const stock of stocks) this.rows.set(stock.symbol, new Row(stock, body));
    const draw = (frame: number): void => {
      const now = serverNow();
      for (const row of this.rows.values()) row.draw(frame, now);
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  /** The server told the past again. */
  reopen(stocks: Stock[]): void {
    for (const { symbol, past } of stocks) {
      const row = this.rows.get(symbol);
      if (row) row.past = past;
    }
  }

  take(quote: Quote): void {
    const row = this.rows.get(quote.symbol);
    if (row) row.latest = quote;
  }
}
