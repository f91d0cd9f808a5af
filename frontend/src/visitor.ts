// Who the visitor is: a name, which stays in this browser, and a colour per client.

import type { Centrifuge, ClientInfo } from "centrifuge";

const KEY = "freshet.name";
const COLOURS = 8; // --who-0 ... in tokens.css
const FIRST = ["Amber", "Brisk", "Calm", "Early", "Fair", "Gentle", "Lucky", "Merry", "Quick", "Silver"];
const SECOND = ["Otter", "Heron", "Trout", "Swift", "Beaver", "Dipper", "Crane", "Newt", "Salmon", "Wagtail"];

const any = (words: string[]): string => words[Math.floor(Math.random() * words.length)] ?? "";

export function visitorName(): string {
  const name = localStorage.getItem(KEY) ?? `${any(FIRST)} ${any(SECOND)}`;
  localStorage.setItem(KEY, name);
  return name;
}

/** The field with the visitor's name: a new one is told to the server by connecting again. */
export function nameField(field: HTMLInputElement, client: Centrifuge): void {
  field.value = visitorName();
  field.addEventListener("change", () => {
    const name = field.value.replace(/\s+/g, " ").trim();
    field.value = name || visitorName();
    if (!name || name === visitorName()) return;
    localStorage.setItem(KEY, name);
    client.setData({ name });
    client.disconnect();
    client.connect();
  });
}

/** What others see of a client; the server has checked it. */
export function nameOf(info: ClientInfo): string {
  return (info.connInfo as { name: string }).name;
}

/** A colour that stays the same for a client, readable under white text. */
export function colourOf(client: string): string {
  return `var(--who-${parseInt(client.slice(-4), 16) % COLOURS})`;
}
