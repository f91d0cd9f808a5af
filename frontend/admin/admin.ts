// The admin page: a connection, a view for each address behind `#`, and a search that is one key away.

import { element, make } from "../src/page";
import "./admin.css";
import { ChannelView } from "./channel";
import { ClientView, UserView } from "./client";
import { Feed, type State } from "./feed";
import { Overview } from "./overview";
import { el } from "./parts";
import { ChannelsView, ClientsView, LogView, SearchView } from "./search";
import type { View } from "./view";

const feed = new Feed();
const main = element("main");
const state = element("state");
const query = element<HTMLInputElement>("query");
let view: View | null = null;
let open = false;

const VIEWS: Record<string, (name: string) => View> = {
  "": () => new Overview(feed),
  channels: () => new ChannelsView(feed),
  clients: () => new ClientsView(feed),
  log: () => new LogView(feed),
  channel: (name) => new ChannelView(feed, name),
  client: (name) => new ClientView(feed, name),
  user: (name) => new UserView(feed, name),
  search: (name) => new SearchView(feed, name),
};

function route(): void {
  if (!open) return;
  const [kind = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  let name = rest.join("/");
  try {
    name = decodeURIComponent(name);
  } catch {
    // It is taken as it is.
  }
  view?.close?.();
  view = (VIEWS[kind] ?? VIEWS[""])?.(name) ?? null;
  if (!view) return;
  main.replaceChildren(view.root);
  view.update?.();
  document.title = `${view.title} · Freshet admin`;
  for (const link of document.querySelectorAll<HTMLAnchorElement>("#navigation a")) {
    const here = link.hash.replace(/^#\/?/, "") === (kind === "channel" ? "channels" : ["client", "user"].includes(kind) ? "clients" : kind);
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  window.scrollTo(0, 0);
}

function lock(complaint: string): void {
  open = false;
  view?.close?.();
  view = null;
  const form = make("form", "card key");
  const field = make("input");
  field.type = "password";
  field.id = "key";
  field.autocomplete = "off";
  const label = make("label", "", "The admin key");
  label.htmlFor = "key";
  const said = make("p", "complaint", complaint);
  said.setAttribute("role", "alert");
  form.append(
    make("h1", "", "Freshet admin"),
    el("div", "", label, field),
    said,
    make("button", "primary", "Open"),
    el("p", "note", "It is the value of FRESHET_ADMIN_KEY, or of key in [admin] of freshet.toml, and is kept in this tab alone."),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    feed.open(field.value);
  });
  main.replaceChildren(form);
  field.focus();
}

feed.stateChanged = (now: State, text: string) => {
  state.dataset.state = now === "locked" || now === "closed" ? "lost" : now;
  state.textContent = now === "locked" ? "Locked" : text;
  const unlocked = now === "live" || (open && now === "lost");
  for (const id of ["navigation", "search"]) element(id).hidden = !unlocked;
  element("forget").hidden = !feed.hasKey || !unlocked;
  if (now === "locked") lock(text);
  else if (now === "live" && !open) {
    open = true;
    route();
  }
};

feed.changed = () => {
  view?.update?.();
  const number = feed.lists.problems.length;
  const badge = element("problems");
  badge.hidden = !number;
  badge.textContent = number >= 50 ? "50+" : String(number);
};

window.addEventListener("hashchange", route);
element("forget").addEventListener("click", () => feed.forget());
element("search").addEventListener("submit", (event) => {
  event.preventDefault();
  if (query.value.trim()) location.hash = `#/search/${encodeURIComponent(query.value.trim())}`;
});
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLElement && event.target.matches("input, textarea, select");
  if (event.key === "/" && !typing && open) {
    event.preventDefault();
    query.focus();
    query.select();
  } else if (event.key === "Escape" && document.activeElement === query) {
    query.blur();
  }
});
feed.open();
