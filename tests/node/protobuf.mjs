// The official JavaScript client with Protobuf: node protobuf.mjs URL TRANSPORT TOKEN
import assert from "node:assert/strict";
import { Centrifuge } from "centrifuge/build/protobuf";
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
}, 15000);
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
} catch (error) {
  console.error(error);
  process.exitCode = 1;
}
clearTimeout(limit);
client.disconnect();
