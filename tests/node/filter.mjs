// The official JavaScript client with a filter of tags: node filter.mjs URL PROTOCOL TOKEN API
import assert from "node:assert/strict";
import { Centrifuge as Json } from "centrifuge";
import { Centrifuge as Protobuf } from "centrifuge/build/protobuf";
import { seconds } from "./patience.mjs";
import { WebSocket } from "./patient.mjs";

const [url, protocol, token, api] = process.argv.slice(2);
const client = new (protocol === "json" ? Json : Protobuf)(url, { websocket: WebSocket, token });
const limit = setTimeout(() => {
  console.error("it takes too long");
  process.exit(1);
}, seconds(15));
const unpack = (data) => (protocol === "json" ? data : JSON.parse(new TextDecoder().decode(data)));
const until = async (condition) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
};
const channel = `filter:js-${protocol}`;
const publish = (data, tags) =>
  fetch(`${api}/api/publish`, { method: "POST", body: JSON.stringify({ channel, data, tags }) });
const listen = async (tagsFilter) => {
  const subscription = client.newSubscription(channel, tagsFilter ? { tagsFilter } : {});
  const got = [];
  subscription.on("publication", ({ data }) => got.push(unpack(data)));
  subscription.subscribe();
  await subscription.ready(5000);
  return { subscription, got };
};
try {
  client.connect();
  const { subscription, got } = await listen({
    op: "and",
    nodes: [
      { key: "ticker", cmp: "in", vals: ["AAPL", "BTC"] },
      { op: "not", nodes: [{ key: "price", cmp: "lt", val: "100" }] },
    ],
  });
  const tags = [{ ticker: "AAPL", price: "99.5" }, { ticker: "AAPL", price: "100" }, { ticker: "IBM", price: "200" }];
  const round = async (number) => {
    for (const [index, each] of tags.entries()) await publish(number + index, each);
    await publish(number + 9, { ticker: "BTC", price: "1000" });
  };
  await round(0);
  await until(() => got.length === 2);
  subscription.unsubscribe();
  await round(10);
  subscription.subscribe();
  await subscription.ready(5000);
  await round(20);
  await until(() => got.length === 6);
  assert.deepEqual(got, [1, 9, 11, 19, 21, 29]);
  subscription.setTagsFilter({ key: "price", cmp: "more", val: "1" });
  const error = new Promise((resolve) => subscription.on("unsubscribed", resolve));
  subscription.unsubscribe();
  await error;
  const refused = new Promise((resolve) => subscription.once("unsubscribed", resolve));
  subscription.subscribe();
  assert.equal((await refused).code, 107);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
}
clearTimeout(limit);
client.disconnect();
