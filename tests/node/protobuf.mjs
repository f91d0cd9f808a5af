// The official JavaScript client with Protobuf: node protobuf.mjs URL TRANSPORT TOKEN
import assert from "node:assert/strict";
import { Centrifuge } from "centrifuge/build/protobuf";
import { seconds } from "./patience.mjs";
import { WebSocket } from "./patient.mjs";

const [url, transport, token] = process.argv.slice(2);
const channel = `protobuf-${transport}-${process.pid}`;
const endpoint =
  transport === "websocket" ? `${url.replace("http", "ws")}/connection/websocket?format=protobuf` : `${url}/connection/${transport}`;
const client = new Centrifuge([{ transport, endpoint }], {
  websocket: WebSocket,
  emulationEndpoint: `${url}/emulation`,
  token,
  minReconnectDelay: 10,
});
const bytes = (value) => new TextEncoder().encode(JSON.stringify(value));
const limit = setTimeout(() => {
  console.error("it takes too long");
  process.exit(1);
}, seconds(15));
try {
  const subscription = client.newSubscription(channel);
  const got = [];
  subscription.on("publication", ({ data }) => got.push(JSON.parse(new TextDecoder().decode(data))));
  client.connect();
  subscription.subscribe();
  await subscription.ready(5000);
  for (let number = 0; number < 100; number++) await subscription.publish(bytes(number));
  while (got.length < 100) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(got, [...Array(100).keys()]);
  const { clients } = await subscription.presence();
  assert.equal(Object.values(clients)[0].user, "alice");
  await assert.rejects(client.rpc("none", bytes({})), { code: 108 });
  await assert.rejects(client.mapPublish(channel, "key", new TextEncoder().encode("1")), { code: 108 });
  const map = client.newMapSubscription(`${channel}:map`);
  const refused = new Promise((resolve) => map.once("unsubscribed", resolve));
  map.subscribe();
  assert.equal((await refused).code, 108);
  const half = bytes("hi \u{1F600}".slice(0, 4));
  await subscription.publish(half);
  await assert.rejects(subscription.publish(new TextEncoder().encode("[".repeat(3000) + "]".repeat(3000))), { code: 107 });
  while (got.length < 101) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(got.at(-1), "hi \ud83d");
} catch (error) {
  console.error(error);
  process.exitCode = 1;
}
clearTimeout(limit);
client.disconnect();
