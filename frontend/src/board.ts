// The table: quotes are noted as they come and drawn once per frame.

export interface Quote {
  symbol: string;
  price: number;
  open: number;
  volume: number;
  at: number;
}

const POINTS = 60; // of a sparkline
const SPACING = 500; // milliseconds between two of them
const FLASH = 100; // milliseconds before a flash fades
const CALM = 900; // milliseconds between two flashes of a row: at ten updates a second it would never be off

const price = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const volume = new Intl.NumberFormat("en");

class Row {
  private readonly priceCell: HTMLTableCellElement;
  private readonly changeCell: HTMLTableCellElement;
  private readonly volumeCell: HTMLTableCellElement;
  private readonly canvas: HTMLCanvasElement;
  private readonly points: number[] = [];
  private lastPoint = 0;
  private shown = 0;
  private flashedAt = 0;
  latest: Quote | null = null;

  constructor(symbol: string, name: string, body: HTMLElement) {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = symbol;
    const cell = (className: string, text = ""): HTMLTableCellElement => {
      const made = document.createElement("td");
      made.className = className;
      made.textContent = text;
      return made;
    };
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("aria-hidden", "true");
    this.priceCell = cell("number price", "–");
    this.changeCell = cell("number change", "–");
    this.volumeCell = cell("number volume", "–");
    const spark = cell("spark");
    spark.append(this.canvas);
    row.append(head, cell("name", name), this.priceCell, this.changeCell, spark, this.volumeCell);
    body.append(row);
  }

  draw(time: number): void {
    const quote = this.latest;
    if (!quote) return;
    if (time - this.flashedAt > FLASH) this.priceCell.classList.remove("up", "down");
    if (quote.price !== this.shown) {
      this.showPrice(quote, time);
    }
    if (time - this.lastPoint >= SPACING) {
      this.lastPoint = time;
      this.points.push(quote.price);
      if (this.points.length > POINTS) this.points.shift();
      this.volumeCell.textContent = volume.format(quote.volume);
      this.drawSpark(getComputedStyle(this.changeCell).color);
    }
  }

  private showPrice(quote: Quote, time: number): void {
    if (this.shown && time - this.flashedAt > CALM * (0.6 + Math.random())) {
      this.priceCell.classList.toggle("up", quote.price > this.shown);
      this.priceCell.classList.toggle("down", quote.price < this.shown);
      this.flashedAt = time;
    }
    this.shown = quote.price;
    this.priceCell.textContent = price.format(quote.price);
    const change = (quote.price / quote.open - 1) * 100;
    const direction = change >= 0 ? "up" : "down";
    this.changeCell.dataset.direction = direction;
    this.changeCell.textContent = `${direction === "up" ? "▲" : "▼"} ${Math.abs(change).toFixed(2)} %`;
  }

  private drawSpark(colour: string): void {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = devicePixelRatio;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    const context = this.canvas.getContext("2d");
    if (!context || this.points.length < 2) return;
    const low = Math.min(...this.points);
    const range = Math.max(...this.points) - low || 1;
    context.scale(scale, scale);
    context.strokeStyle = colour;
    context.lineWidth = 1.5;
    context.lineJoin = "round";
    context.beginPath();
    this.points.forEach((value, index) => {
      context.lineTo((index / (POINTS - 1)) * (width - 2) + 1, height - 3 - ((value - low) / range) * (height - 6));
    });
    context.stroke();
  }
}

export class Board {
  private readonly rows = new Map<string, Row>();

  constructor(body: HTMLElement, symbols: { symbol: string; name: string }[]) {
    for (const { symbol, name } of symbols) this.rows.set(symbol, new Row(symbol, name, body));
    const frame = (time: number): void => {
      for (const row of this.rows.values()) row.draw(time);
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  take(quote: Quote): void {
    const row = this.rows.get(quote.symbol);
    if (row) row.latest = quote;
  }
}
