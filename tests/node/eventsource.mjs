// The `EventSource` of npm on a channel's URL: node eventsource.mjs URL
// It is cut off in the middle, comes back by itself, and has missed nothing.
import assert from "node:assert/strict";
import { EventSource } from "eventsource";
import { seconds } from "./patience.mjs";
import { relay } from "./relay.mjs";

const url = new URL(process.argv[2]);
const line = await relay(url);

const publish = (data) => fetch(url, { method: "POST", body: JSON.stringify(data) });
const source = new EventSource(`http://127.0.0.1:${line.port}${url.pathname}`);
const got = [];
source.onmessage = ({ data }) => got.push(JSON.parse(data));
const limit = setTimeout(() => assert.fail(`got only ${got.length}`), seconds(15));

await new Promise((resolve) => (source.onopen = resolve));
for (let number = 0; number < 30; number++) {
  await publish(number);
  if (number === 10 || number === 20) line.cut();
}
while (got.length < 30) await new Promise((resolve) => setTimeout(resolve, 10));
assert.deepEqual(got, [...Array(30).keys()]);
clearTimeout(limit);
source.close();
line.close();
