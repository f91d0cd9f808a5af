const e=`// The stock ticker: one connection, a subscription per symbol, and a slider that turns the market.

import { Centrifuge } from "centrifuge";
import { address, element } from "../../src/page";
import { Status } from "../../src/status";
import { Board, type Quote, type Stock } from "./board";
import "./ticker.css";

const client = new Centrifuge(address("ticker"), { maxReconnectDelay: 3_000 });
const status = new Status(client, "quotes");
const speed = element<HTMLInputElement>("speed");
let board: Board | null = null;

client.on("connected", ({ data }) => {
  showSpeed(data.rate);
  speed.disabled = false;
  board?.reopen(data.stocks);
  if (!board) open(data.stocks);
});

function open(stocks: Stock[]): void {
  const opened = (board = new Board(element("rows"), stocks, () => status.serverNow()));
  element("empty").hidden = true;
  element("board").hidden = false;
  for (const { symbol } of stocks) {
    const subscription = client.newSubscription(\`ticker:\${symbol}\`);
    status.follow<Quote>(subscription, (quote) => opened.take(quote));
    subscription.subscribe();
  }
}

// Whoever moves the slider moves it for everyone: the server publishes the new rate.
const market = client.newSubscription("market");
market.on("publication", ({ data }) => showSpeed(data.rate));
market.subscribe();

let asked = false; // one request at a time; where the slider is by then goes with the next one

speed.addEventListener("input", async () => {
  element("speed-value").textContent = speed.value;
  if (asked) return;
  asked = true;
  try {
    let sent = "";
    while (sent !== speed.value) {
      sent = speed.value;
      await client.rpc("rate", Number(sent));
    }
  } catch {
    // Too fast, or not connected: the server's own rate is shown with the next connection.
  } finally {
    asked = false;
  }
});

function showSpeed(rate: number): void {
  if (!asked) speed.value = String(rate);
  element("speed-value").textContent = speed.value;
}

client.connect();
`;export{e as default};
