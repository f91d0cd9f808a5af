// What all pages share: finding an element, and the theme.
import "./tokens.css";
import "./base.css";

const THEME = "freshet.theme"; // public/theme.js reads it, too

/** The element with this id, which the page has. */
export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as T;
}

/** A new element with a class and a text. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = "",
  text = "",
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", minimumFractionDigits: 2, maximumFractionDigits: 2 });

/** A number of things in at most seven characters, for which every place that shows one has room: 999,999 and then 1.00M. */
export function count(value: number): string {
  return (value < 999_999.5 ? whole : short).format(value);
}

/** Where a demo's connections are. */
export function address(demo: string): string {
  const url = new URL(`${document.querySelector<HTMLAnchorElement>(".brand")?.href}live/${demo}/connection/websocket`);
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}

const theme = element<HTMLSelectElement>("theme");
theme.value = localStorage.getItem(THEME) ?? "auto";
theme.addEventListener("change", () => {
  localStorage.setItem(THEME, theme.value);
  if (theme.value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
});
