const e=`// An auction and a flash sale: three rooms. A call of a room is an rpc whose method is the room's channel.

import { Centrifuge } from "centrifuge";
import { address, element, make } from "../../src/page";
import { Status } from "../../src/status";
import { nameField, visitorKey, visitorName } from "../../src/visitor";
import { Clock } from "./clock";
import { Shop } from "./shop";
import "./auction.css";

const HOUSE = "auction:house";
const LINES = 5; // of what was bid, for which the page has room

interface Entry { number: number; what: string; by: string; price: number; amount?: number }

/** Times are milliseconds by the server's clock. */
interface Lot {
  lot: number; title: string; about: string; art: string;
  price: number; leader: string; next: number; bids: number; ends: number; at: number;
  over: boolean; winner: string; recent: Entry[];
}

interface Yours { your: { most: number; leads: boolean }; at: number }

const client = new Centrifuge(address("auction"), { data: { name: visitorName(), key: visitorKey() }, maxReconnectDelay: 3_000 });
const status = new Status(client, "bids");
const clock = new Clock(status);
const amount = element<HTMLInputElement>("amount");
const euros = new Intl.NumberFormat("en-IE", { style: "currency", currency: "EUR", maximumFractionDigits: 0 });
let lot: Lot | null = null;
let mine: Yours["your"] | null = null;

// ---------------------------------------------------------------------------------------------------- what there is

const house = client.newSubscription(HOUSE);
status.follow<Lot | Yours>(house, (data) => ("your" in data ? showMine(data.your) : showLot(data)));

function showLot(now: Lot): void {
  const before = lot;
  lot = now;
  if (before?.lot !== now.lot) {
    mine = null;
    amount.value = "";
    element("art").dataset.art = now.art;
    element("lot").textContent = \`Lot \${now.lot}\`;
    element("title").textContent = now.title;
    element("about").textContent = now.about;
  }
  const price = element("price");
  price.textContent = euros.format(now.price);
  if (before && before.price !== now.price) flash(price);
  element("leader").textContent = now.over ? \`Sold to \${now.winner}\` : \`\${now.leader} leads\`;
  if (before?.lot !== now.lot || Number(amount.value) < now.next) amount.value = String(now.next);
  element<HTMLButtonElement>("submit").disabled = now.over;
  element("art").classList.toggle("over", now.over);
  element("log").replaceChildren(...now.recent.slice(-LINES).reverse().map(line));
  showMine(mine);
}

function line(it: Entry): HTMLElement {
  const said: Record<string, string> = {
    first: "opens",
    outbid: "takes the lead",
    defended: \`bids \${euros.format(it.amount ?? 0)}, and is outbid at once\`,
    raised: "raises the own limit",
    sold: "Sold!",
  };
  const item = make("li", it.what);
  item.append(make("span", "", [it.by, said[it.what] ?? it.what].join(" ").trim()), make("b", "", euros.format(it.price)));
  return item;
}

function showMine(your: Yours["your"] | null): void {
  mine = your;
  if (!your || !lot) return say("", "Say the most that you would pay. The room bids for you, no more than it takes to lead.");
  if (lot.over) say(your.leads ? "leads" : "", your.leads ? \`It is yours, for \${euros.format(lot.price)}. Congratulations!\` : "It went to somebody else. The next lot comes at once.");
  else if (your.leads) say("leads", \`You lead, with up to \${euros.format(your.most)}, which nobody else can see.\`);
  else say("outbid", \`You have been outbid: your limit was \${euros.format(your.most)}.\`);
}

function say(kind: string, text: string): void {
  element("mine").dataset.kind = kind;
  element("mine").textContent = text;
}

function flash(it: HTMLElement): void {
  it.getAnimations().forEach((each) => each.cancel());
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) it.animate([{ scale: 1.12 }, { scale: 1 }], { duration: 350, easing: "ease-out" });
}

// ---------------------------------------------------------------------------------------------------------- bidding

const step = (): number => (!lot || lot.price < 500 ? 10 : lot.price < 1_000 ? 25 : 50);
const change = (by: number): void => {
  amount.value = String(Math.max(lot?.next ?? 0, Math.round(Number(amount.value) || 0) + by));
};

element("less").addEventListener("click", () => change(-step()));
element("more").addEventListener("click", () => change(step()));
element("bid").addEventListener("submit", (event) => {
  event.preventDefault();
  const bid = Number(amount.value.replace(/[^0-9]/g, ""));
  client.rpc(HOUSE, { amount: bid }).catch(({ message }: { message: string }) => say("outbid", \`Not counted: \${message}.\`));
});

// -------------------------------------------------------------------------------------------------------- the clock

clock.each((now) => {
  const left = lot ? Math.max(0, lot.ends - now) : 0;
  element("left").textContent = lot?.over ? "Sold" : \`\${Math.floor(left / 60_000)}:\${String(Math.floor(left / 1_000) % 60).padStart(2, "0")}\`;
  element("ending").classList.toggle("last", !lot?.over && left < 10_000);
  element("fuse").style.width = \`\${Math.min(100, left / 900)}%\`;
});

const shop = new Shop(client, status, clock);
nameField(element<HTMLInputElement>("name"), client, { key: visitorKey() });
house.subscribe();
shop.open();
client.connect();
`;export{e as default};
