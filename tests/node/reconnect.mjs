// Official clients at the edge of a limit, which are cut and come back: cases for cases.mjs.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { Centrifuge as Json } from "centrifuge";
import { Centrifuge as Protobuf } from "centrifuge/build/protobuf";
import { EventSource as Events } from "eventsource";
import { io } from "socket.io-client";
import { EventSource, WebSocket } from "./patient.mjs";
import { relay } from "./relay.mjs";

let url, options, line, through; // of the case that is played: see `run`
process.on("unhandledRejection", (error) => {
  if (error.message !== "fetch failed") throw error; // what a client of a stream posts while it is cut
});

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
function token(claims) {
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: "u", ...claims })}`;
  return `${text}.${createHmac("sha256", options.secret).update(text).digest("base64url")}`;
}

async function until(condition, what) {
  const end = Date.now() + 20000;
  while (!(await condition())) {
    if (Date.now() > end) assert.fail(`still waiting for ${typeof what === "function" ? what() : what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function publish(channels, data) {
  const body = JSON.stringify({ channels, data });
  const answer = await (await fetch(`${url}/api/broadcast`, { method: "POST", body })).json();
  assert.ok(answer.result, JSON.stringify(answer));
}

/** All channels, in requests of a thousand each. */
async function publishAll(channels, data) {
  for (let at = 0; at < channels.length; at += 1000) await publish(channels.slice(at, at + 1000), data);
}

const named = (prefix, count) => [...Array(count).keys()].map((number) => `${prefix}:${options.name}-${number}`);

function centrifuge({ transport, encoding }, more = {}) {
  const base = transport === "websocket" ? through.replace("http", "ws") : through;
  return new (encoding === "json" ? Json : Protobuf)(
    [{ transport, endpoint: `${base}/connection/${transport}` }],
    {
      emulationEndpoint: `${through}/emulation`,
      websocket: WebSocket,
      eventsource: EventSource,
      fetch,
      readableStream: ReadableStream,
      minReconnectDelay: 10,
      maxReconnectDelay: 50,
      timeout: 20000,
      token: token({}),
      ...more,
    },
  );
}

const scenarios = {
  /** A subscription with a token of its own in each channel. options: count, padding (bytes of each token). */
  async subscriptions() {
    const client = centrifuge(options);
    const got = new Map();
    let ended = "";
    client.on("disconnected", ({ code, reason }) => (ended = `${code} ${reason}`));
    const channels = named("room", options.count);
    const subscriptions = channels.map((channel) => {
      const subscription = client.newSubscription(channel, {
        token: token({ channel, padding: "p".repeat(options.padding) }),
      });
      got.set(channel, 0);
      subscription.on("publication", () => got.set(channel, got.get(channel) + 1));
      subscription.on("subscribed", ({ wasRecovering, recovered }) => assert.ok(!wasRecovering || recovered, channel));
      subscription.subscribe();
      return subscription;
    });
    const inside = () => subscriptions.filter(({ state }) => state === "subscribed").length;
    client.connect();
    await until(() => inside() === options.count, () => `${options.count} channels: ${inside()} ${ended}`);
    for (let round = 1; round < 3; round++) {
      line.cut();
      await publishAll(channels, 1);
      const complete = () => [...got.values()].filter((number) => number === round).length;
      await until(() => complete() === options.count, () => `what was missed: ${complete()} ${inside()} ${ended}`);
    }
    client.disconnect();
  },

  /** Channels to which the server subscribes it by its token: its connect says where it stands in each. */
  async personal() {
    const channels = named("room", options.count);
    const client = centrifuge(options, { token: token({ channels }) });
    const got = new Map(channels.map((channel) => [channel, 0]));
    let connects = 0;
    let ended = "";
    client.on("publication", ({ channel }) => got.set(channel, got.get(channel) + 1));
    client.on("connected", () => connects++);
    client.on("disconnected", ({ code, reason }) => (ended = `${code} ${reason}`));
    client.connect();
    await until(() => connects === 1, () => `a connection: ${ended}`);
    line.cut();
    await publishAll(channels, 1);
    const complete = () => [...got.values()].filter((number) => number === 1).length;
    await until(() => complete() === options.count, () => `what was missed: ${complete()}, ${connects} ${ended}`);
    client.disconnect();
  },

  /** As much as a log keeps. options: count of publications. */
  async recovery() {
    const client = centrifuge(options);
    const [channel] = named("open", 1);
    const subscription = client.newSubscription(channel);
    const got = [];
    const unpack = (data) => (options.encoding === "json" ? data : JSON.parse(new TextDecoder().decode(data)));
    subscription.on("publication", ({ data }) => got.push(unpack(data)[0]));
    client.connect();
    subscription.subscribe();
    await subscription.ready(5000);
    client.disconnect();
    const commands = [...Array(options.count).keys()].map((number) => ({
      publish: { channel, data: [number, "x".repeat(150)] },
    }));
    for (let at = 0; at < commands.length; at += 1000) {
      const body = JSON.stringify({ commands: commands.slice(at, at + 1000) });
      assert.ok((await fetch(`${url}/api/batch`, { method: "POST", body })).ok);
    }
    client.connect();
    await until(() => got.length === options.count, () => `publications: ${got.length}`);
    assert.deepEqual(got, [...Array(options.count).keys()]);
    client.disconnect();
  },

  /** More channels than a client may have: the others stay, and what is refused says why. */
  async too_many() {
    const client = centrifuge(options);
    const refusals = [];
    const subscriptions = named("open", options.count).map((channel) => {
      const subscription = client.newSubscription(channel);
      subscription.on("unsubscribed", ({ code, reason }) => refusals.push([code, reason]));
      subscription.subscribe();
      return subscription;
    });
    client.connect();
    await until(() => subscriptions.every(({ state }) => state !== "subscribing"), "each to be decided");
    assert.deepEqual(refusals, [[106, `at most ${options.count - 1} channels per client, see limits.channels_per_client`]]);
    assert.equal(client.state, "connected");
    client.disconnect();
  },

  /** What no limit allows: it is told which one. */
  async too_large() {
    const client = centrifuge(options);
    let ended = "";
    client.on("disconnected", ({ code, reason }) => (ended = `${code} ${reason}`));
    client.connect();
    await client.ready(5000);
    const large = await client.rpc("x", "x".repeat(70000)).catch((error) => error);
    assert.deepEqual([large.code, large.message.split(", ")[1]], [106, "see limits.message_size"]);
    assert.equal(client.state, "connected");
    client.rpc("x", "x".repeat(4000000)).catch(() => {});
    await until(() => ended, "the end");
    assert.match(ended, /message size limit|1009/);
  },

  /** What was said while it was offline, before it was ever connected and after a cut. options: transports, count. */
  async offline() {
    const socket = io(through, { transports: options.transports, forceNew: true, reconnectionDelay: 10, reconnectionDelayMax: 50 });
    const who = options.name;
    const size = options.size ?? 0;
    const say = (number) => socket.emit("note", who, size ? "x".repeat(size + number) : number);
    const numbers = [...Array(options.count).keys()];
    numbers.forEach(say);
    const notes = () => socket.timeout(10000).emitWithAck("notes", who);
    const expected = numbers.map((number) => size + number);
    await new Promise((resolve) => socket.once("connect", resolve));
    assert.deepEqual(await notes(), expected);
    const away = new Promise((resolve) => socket.once("disconnect", resolve));
    while (socket.connected) {
      line.cut();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await away;
    numbers.forEach(say);
    await new Promise((resolve) => socket.once("connect", resolve));
    assert.deepEqual(await notes(), [...expected, ...expected]);
    socket.close();
  },

  /** Binary values: as many, and as much, as fit into a packet; and more than that. */
  async attachments() {
    const socket = io(through, { transports: options.transports, forceNew: true, reconnectionDelay: 10 });
    await new Promise((resolve) => socket.once("connect", resolve));
    const ask = (count, size) => socket.timeout(10000).emitWithAck("values", Array(count).fill(Buffer.alloc(size)));
    assert.equal(await ask(500, 10), 5000);
    assert.equal(await ask(1, 700000), 700000);
    const ended = new Promise((resolve) => socket.once("disconnect", resolve));
    socket.emit("values", [Buffer.alloc(1100000)]);
    await ended;
    await new Promise((resolve) => socket.once("connect", resolve));
    assert.equal(await ask(1, 10), 10);
    socket.close();
  },

  /** One event stream of many channels. options: count. */
  async events() {
    const channels = named("open", options.count);
    const query = new URLSearchParams(channels.map((channel) => ["channel", channel]));
    const source = new Events(`${through}/channels?${query}`);
    const got = new Map(channels.map((channel) => [channel, []]));
    const began = new Set();
    let last = "";
    source.addEventListener("subscribed", ({ data }) => began.add(JSON.parse(data).channel));
    source.addEventListener("unrecoverable", ({ data }) => assert.fail(`lost: ${data}`));
    source.onmessage = ({ data, lastEventId }) => {
      const { channel, data: number } = JSON.parse(data);
      got.get(channel).push(number);
      last = lastEventId;
    };
    await until(() => began.size === options.count, () => `the channels: ${began.size}, state ${source.readyState}`);
    const reached = (number) => [...got.values()].every((numbers) => numbers.at(-1) === number);
    await publishAll(channels, 0);
    await until(() => reached(0), () => `what is live, state ${source.readyState}`);
    line.cut();
    await publishAll(channels, 1);
    await until(() => reached(1), () => `what was missed, state ${source.readyState}`);
    for (const [channel, numbers] of got) assert.deepEqual(numbers, [0, 1], channel);
    assert.ok(last.length < query.toString().length, `an id of ${last.length}`);
    source.close();
  },
};

/** given: options, JSON. Nothing may be missed. */
export async function run(scenario, server, given) {
  [url, options] = [server, JSON.parse(given)];
  line = await relay(options.front ?? url); // front: a proxy with TLS before the server
  through = `${options.front ? "https" : "http"}://127.0.0.1:${line.port}`;
  await scenarios[scenario]();
  line.close();
}
