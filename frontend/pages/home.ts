// The landing page: what Freshet is, and a few quotes that show it.

import { Centrifuge } from "centrifuge";
import { highlight } from "../src/highlight";
import { Meter } from "../src/meter";
import { address, element } from "../src/page";
import { Board, type Quote, type Stock } from "./ticker/board";
import "./ticker/ticker.css";
import "./home.css";

const SHOWN = 9; // symbols

const client = new Centrifuge(address("ticker"), { maxReconnectDelay: 3_000 });
const meter = new Meter(client);
let board: Board | null = null;

client.on("connected", ({ data }) => {
  const stocks = (data.stocks as Stock[]).slice(0, SHOWN);
  board?.reopen(stocks);
  if (board) return;
  const opened = (board = new Board(element("rows"), stocks, () => meter.serverNow()));
  for (const { symbol } of stocks) {
    const subscription = client.newSubscription(`ticker:${symbol}`);
    subscription.on("publication", ({ data }) => {
      meter.add((data as Quote).at);
      opened.take(data as Quote);
    });
    subscription.subscribe();
  }
});
client.connect();

const sample = element("sample");
sample.replaceChildren(highlight(sample.textContent ?? "", "python"));
