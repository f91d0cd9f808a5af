// Small pieces of which the views are made. All text of strangers goes through `textContent`.

import { make } from "../src/page";
import type { ClientItem } from "./feed";
import { bytes, count, duration, user } from "./format";

type Child = Node | string | null | undefined | false;

/** An element with children. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = "",
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = make(tag, className);
  made.append(...children.filter((child): child is Node | string => Boolean(child) || child === ""));
  return made;
}

export function link(text: string, kind: "channel" | "client" | "user", name: string, className = ""): HTMLAnchorElement {
  const made = make("a", className, text);
  made.href = `#/${kind}/${encodeURIComponent(name)}`;
  return made;
}

export function card(title: string, ...children: Child[]): HTMLElement {
  return el("section", "card", el("header", "", el("h2", "", title)), ...children);
}

export function empty(text: string): HTMLElement {
  return make("p", "empty", text);
}

export interface Column {
  name: string;
  number?: boolean;
  /** Left out where there is little room. */
  wide?: boolean;
}

/** A table; on each `fill` its rows are what is given. */
export class Table {
  readonly root = make("div", "scroll");
  private readonly body = make("tbody");
  private readonly none: HTMLElement;
  private readonly table = make("table");

  constructor(
    caption: string,
    private readonly columns: Column[],
    nothing: string,
  ) {
    const head = make("tr");
    for (const column of columns) {
      const cell = make("th", this.classes(column), column.name);
      cell.scope = "col";
      head.append(cell);
    }
    this.table.append(make("caption", "hidden", caption), el("thead", "", head), this.body);
    this.none = empty(nothing);
    this.root.append(this.table, this.none);
    this.fill([]);
  }

  fill(rows: Child[][]): void {
    this.table.hidden = !rows.length;
    this.none.hidden = rows.length > 0;
    // What has the focus would lose it: rows are put in again when it is elsewhere.
    if (this.body.contains(document.activeElement) && rows.length) return;
    this.body.replaceChildren(
      ...rows.map((cells) =>
        el("tr", "", ...cells.map((cell, index) => el("td", this.classes(this.columns[index]), cell))),
      ),
    );
  }

  private classes(column?: Column): string {
    return [column?.number && "number", column?.wide && "wide"].filter(Boolean).join(" ");
  }
}

export const CLIENT_COLUMNS: Column[] = [
  { name: "User" },
  { name: "Client" },
  { name: "Protocol", wide: true },
  { name: "Transport", wide: true },
  { name: "Channels", number: true },
  { name: "Round trip", number: true, wide: true },
  { name: "Queued", number: true },
];

export function clientRow(it: ClientItem): Child[] {
  return [
    it.user ? link(user(it.user), "user", it.user) : el("span", "quiet", "anonymous"),
    link(it.id.slice(0, 8), "client", it.id, "mono"),
    it.dialect,
    it.transport,
    count(it.subscriptions),
    duration(it.round_trip),
    it.waiting ? bytes(it.waiting) : "0",
  ];
}

/** A part of a table's cell that shows how much of the most something is. */
export function bar(value: number, most: number, text: string): HTMLElement {
  const made = el("span", "bar", text);
  made.style.setProperty("--share", `${most ? Math.round((100 * value) / most) : 0}%`);
  return made;
}
