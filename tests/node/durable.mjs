// npm `@durable-streams/client` on a stream: node durable.mjs URL
// A producer appends while a reader that is cut off twice follows; both end with the stream.
import assert from "node:assert/strict";
import { DurableStream, IdempotentProducer } from "@durable-streams/client";
import { seconds } from "./patience.mjs";
import { relay } from "./relay.mjs";

const url = new URL(process.argv[2]);
const line = await relay(url);
const stream = await DurableStream.create({ url: url.href, contentType: "application/json" });
const producer = new IdempotentProducer(stream, "writer", { autoClaim: true });
const limit = setTimeout(() => assert.fail(`got only ${got.length}`), seconds(30));

const got = [];
const response = await new DurableStream({ url: `http://127.0.0.1:${line.port}${url.pathname}` }).stream({
  offset: "-1",
  live: process.argv[3] ?? "long-poll",
});
const followed = (async () => {
  for await (const item of response.jsonStream()) got.push(item);
})();

for (let number = 0; number < 60; number++) {
  producer.append(JSON.stringify({ number }));
  await producer.flush();
  if (number === 20 || number === 40) line.cut();
}
await producer.close();
await followed;
assert.deepEqual(got, [...Array(60).keys()].map((number) => ({ number })));
assert.equal((await stream.head()).streamClosed, true);
clearTimeout(limit);
line.close();
