// The official JavaScript client with delta compression: node delta.mjs URL PROTOCOL TOKEN
import assert from "node:assert/strict";
import { Centrifuge as Json } from "centrifuge";
import { Centrifuge as Protobuf } from "centrifuge/build/protobuf";
import { seconds } from "./patience.mjs";
import { WebSocket } from "./patient.mjs";

const [url, protocol, token] = process.argv.slice(2);
const client = new (protocol === "json" ? Json : Protobuf)(url, { websocket: WebSocket, token, minReconnectDelay: 10 });
const limit = setTimeout(() => {
  console.error("it takes too long");
  process.exit(1);
}, seconds(15));
const value = (number) => ({ text: "ein längerer Text, der bleibt; 日本語も 🙂; ".repeat(10), sign: "äöü€日"[number % 5], number });
const pack = (data) => (protocol === "json" ? data : new TextEncoder().encode(JSON.stringify(data)));
const unpack = (data) => (protocol === "json" ? data : JSON.parse(new TextDecoder().decode(data)));
const until = async (condition) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
};
try {
  const channel = `delta:js-${protocol}`;
  const subscription = client.newSubscription(channel, { delta: "fossil" });
  const got = [];
  subscription.on("publication", ({ data }) => got.push(unpack(data)));
  client.connect();
  subscription.subscribe();
  await subscription.ready(5000);
  for (let number = 0; number < 20; number++) await client.publish(channel, pack(value(number)));
  await until(() => got.length === 20);
  subscription.unsubscribe();
  for (let number = 20; number < 30; number++) await client.publish(channel, pack(value(number)));
  subscription.subscribe();
  await subscription.ready(5000);
  for (let number = 30; number < 40; number++) await client.publish(channel, pack(value(number)));
  await until(() => got.length === 40);
  assert.deepEqual(got, [...Array(40).keys()].map(value));
  const { numFullPayloads, numDeltaPayloads, bytesReceived, bytesDecoded } = subscription.deltaStats();
  assert.equal(numFullPayloads, 2);
  assert.equal(numDeltaPayloads, 38);
  assert(bytesReceived < bytesDecoded / 5);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
}
clearTimeout(limit);
client.disconnect();
