// The `EventSource` of npm reads what has line ends of every sort in it, one event each: node lineends.mjs URL
import assert from "node:assert/strict";
import { EventSource } from "eventsource";
import { seconds } from "./patience.mjs";

const url = process.argv[2];
const texts = ['["a",\r1]', '["a",\r\n\r\n2]', '{"b":\n\n3}', '"\u2028\u2029\u0085"', '["id: 7\\r\\n\\r\\ndata: 8",\rnull]'];
const source = new EventSource(url);
const got = [];
source.onmessage = ({ data }) => got.push(JSON.parse(data));
const limit = setTimeout(() => assert.fail(`got only ${JSON.stringify(got)}`), seconds(15));
await new Promise((resolve) => (source.onopen = resolve));
for (const text of texts) assert.equal((await fetch(url, { method: "POST", body: text })).status, 200);
while (got.length < texts.length) await new Promise((resolve) => setTimeout(resolve, 10));
assert.deepEqual(got, texts.map((text) => JSON.parse(text)));
clearTimeout(limit);
source.close();
