// How the chat is drawn. What people write and are called is only ever set as text.

import type { ClientInfo, PublicationContext } from "centrifuge";
import { element, make } from "../../src/page";
import { colourOf, nameOf } from "../../src/visitor";

/** Who wrote something; the server says so. */
export interface Sender {
  client: string;
  name: string;
}

export function infoOf({ client, name }: Sender): ClientInfo {
  return { client, user: client, connInfo: { name } };
}

/** at: the server's clock, milliseconds. by: null for the robot. */
export interface Message {
  text: string;
  at: number;
  by: Sender | null;
}

const KEPT = 200; // messages on the page
const TYPING = 3_000; // milliseconds that a hint holds
const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

function avatar(info: ClientInfo | undefined): HTMLElement {
  const words = info ? nameOf(info).split(" ") : ["~"];
  const made = make("span", "avatar", words.slice(0, 2).map((word) => [...word][0] ?? "").join(""));
  made.setAttribute("aria-hidden", "true");
  made.style.background = info ? colourOf(info) : "var(--robot)";
  return made;
}

/** A room's messages, by their offsets in its log. */
export class Log {
  me = "";
  private readonly rows = new Map<number, HTMLElement>();
  private readonly mine = new Set<string>(); // every client that this page has been
  private highest = 0;

  constructor(
    private readonly list: HTMLElement,
    private readonly room: () => string,
  ) {}

  clear(): void {
    this.rows.clear();
    this.highest = 0;
    this.list.replaceChildren(make("p", "empty", "Nothing was said here yet. Say hello."));
  }

  /** The last messages, oldest first, for a page that came in or that could not be told all that it missed. */
  begin(publications: PublicationContext[]): void {
    const first = publications[0]?.offset ?? 0;
    const known = this.highest;
    if (known && first > known + 1) {
      const gone = first - known - 1;
      const text = `${gone} ${gone === 1 ? "message is" : "messages are"} gone: the log of "${this.room()}" no longer had them.`;
      this.list.append(make("p", "divider lost", text));
    }
    for (const { offset = 0, data, info } of publications) this.add(offset, data as Message, info, false);
  }

  add(offset: number, message: Message, info: ClientInfo | undefined, recovered: boolean): void {
    if (this.rows.has(offset)) return;
    if (this.me) this.mine.add(this.me);
    const atEnd = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 60;
    this.list.querySelector(".empty")?.remove();
    if (recovered && !this.list.lastElementChild?.classList.contains("recovered")) {
      this.list.append(make("p", "divider", "While you were away, from the room's log"));
    }
    const row = this.row(offset, message, info, recovered);
    const later = offset < this.highest ? [...this.rows].filter(([at]) => at > offset).sort(([a], [b]) => a - b)[0] : null;
    this.list.insertBefore(row, later?.[1] ?? null);
    this.rows.set(offset, row);
    this.highest = Math.max(this.highest, offset);
    for (const [old, element] of this.rows) {
      if (this.rows.size <= KEPT) break;
      element.remove();
      this.rows.delete(old);
    }
    if (atEnd || (info && this.mine.has(info.client))) this.list.scrollTop = this.list.scrollHeight;
  }

  private row(offset: number, message: Message, info: ClientInfo | undefined, recovered: boolean): HTMLElement {
    const mine = info !== undefined && this.mine.has(info.client);
    const row = make("div", `message${recovered ? " recovered" : ""}`);
    row.dataset.offset = String(offset);
    const head = make("p", "head");
    head.append(
      make("strong", "", info ? nameOf(info) : "Robot"),
      make("span", "when", time.format(message.at)),
      make("span", "offset", `#${offset}`),
    );
    if (mine) head.append(make("span", "badge", "you"));
    if (recovered) head.append(make("span", "badge", "recovered"));
    const body = make("div", "body");
    body.append(head, make("p", "text", message.text));
    row.append(avatar(info), body);
    return row;
  }
}

/** The room that the page's address names. */
const here = (): string => location.hash.slice(1);

/** Who is in the room. */
export class People {
  me = "";
  private readonly rows = new Map<string, HTMLElement>();

  constructor(
    private readonly list: HTMLElement,
    private readonly count: HTMLElement,
  ) {}

  set(infos: ClientInfo[]): void {
    this.rows.clear();
    this.list.replaceChildren();
    this.show();
    for (const info of infos) this.add(info);
  }

  add(info: ClientInfo): void {
    if (this.rows.has(info.client)) return;
    const row = make("li");
    row.append(avatar(info), make("span", "name", nameOf(info)));
    if (info.client === this.me) row.append(make("span", "badge", "you"));
    this.rows.set(info.client, row);
    this.list.append(row);
    this.show();
  }

  remove({ client }: ClientInfo): void {
    this.rows.get(client)?.remove();
    this.rows.delete(client);
    this.show();
  }

  private show(): void {
    this.count.textContent = String(this.rows.size);
  }
}

/** Who is typing: a hint holds for a moment. */
export class Typists {
  private readonly names = new Map<string, { name: string; timer: number }>();

  constructor(private readonly line: HTMLElement) {}

  add(info: ClientInfo): void {
    window.clearTimeout(this.names.get(info.client)?.timer);
    const timer = window.setTimeout(() => this.remove(info), TYPING);
    this.names.set(info.client, { name: nameOf(info), timer });
    this.show();
  }

  remove({ client }: ClientInfo): void {
    window.clearTimeout(this.names.get(client)?.timer);
    this.names.delete(client);
    this.show();
  }

  private show(): void {
    const names = [...this.names.values()].map(({ name }) => name);
    const who = names.length > 3 ? "Several people are" : `${names.join(", ")} ${names.length > 1 ? "are" : "is"}`;
    this.line.textContent = names.length ? `${who} typing…` : "";
  }
}

/**
 * The rooms to choose from, each with its topic; `enter` gets the name of the one that was chosen. The page's address
 * says which one it is, so that what leads to this page again leads to the same room.
 */
export class Rooms {
  current = "";
  private readonly buttons = new Map<string, HTMLButtonElement>();

  constructor(
    private readonly list: HTMLElement,
    private readonly enter: (room: string) => void,
  ) {}

  set(rooms: Record<string, string>): void {
    if (this.buttons.size) return;
    for (const room of Object.keys(rooms)) {
      const button = make("button", "room", room);
      button.type = "button";
      button.addEventListener("click", () => (location.hash = room));
      this.buttons.set(room, button);
      this.list.append(button);
    }
    const choose = (room: string): void => this.choose(room, rooms[room] ?? "");
    window.addEventListener("hashchange", () => this.buttons.has(here()) && choose(here()));
    choose(this.buttons.has(here()) ? here() : (Object.keys(rooms)[0] ?? ""));
  }

  private choose(room: string, topic: string): void {
    if (room === this.current) return;
    this.current = room;
    for (const [name, button] of this.buttons) button.setAttribute("aria-pressed", String(name === room));
    for (const link of document.querySelectorAll<HTMLAnchorElement>(".chat a")) link.hash = room;
    element("room").textContent = room;
    element("topic").textContent = topic;
    this.enter(room);
  }
}
