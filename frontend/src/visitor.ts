// Who the visitor is: a name, which each window has for itself, so that two windows are two visitors.

import type { Centrifuge, ClientInfo } from "centrifuge";

const KEY = "freshet.name";
const SECRET = "freshet.key";
const COLOURS = 8; // --who-0 ... in tokens.css
const FIRST = ["Amber", "Brisk", "Calm", "Early", "Fair", "Gentle", "Lucky", "Merry", "Quick", "Silver"];
const SECOND = ["Otter", "Heron", "Trout", "Swift", "Beaver", "Dipper", "Crane", "Newt", "Salmon", "Wagtail"];

const any = (words: string[]): string => words[Math.floor(Math.random() * words.length)] ?? "";

export function visitorName(): string {
  const name = sessionStorage.getItem(KEY) ?? `${any(FIRST)} ${any(SECOND)}`;
  sessionStorage.setItem(KEY, name);
  return name;
}

/** A secret of this window, by which a server knows its visitor again. */
export function visitorKey(): string {
  const key = sessionStorage.getItem(SECRET) ?? [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16)).join("_");
  sessionStorage.setItem(SECRET, key);
  return key;
}

/** The field with the visitor's name: a new one is told to the server by connecting again. more: what else it is told. */
export function nameField(field: HTMLInputElement, client: Centrifuge, more: object = {}): void {
  field.value = visitorName();
  field.addEventListener("change", () => {
    const name = field.value.replace(/\s+/g, " ").trim();
    field.value = name || visitorName();
    if (!name || name === visitorName()) return;
    sessionStorage.setItem(KEY, name);
    client.setData({ ...more, name });
    client.disconnect();
    client.connect();
  });
}

/** What others see of a client; the server has checked it. */
export function nameOf(info: ClientInfo): string {
  return (info.connInfo as { name: string }).name;
}

/** A colour that stays the same for a name, readable under white text. */
export function colourOf(info: ClientInfo): string {
  let sum = 0;
  for (const letter of nameOf(info)) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 65_521;
  return `var(--who-${sum % COLOURS})`;
}
