// The official client with maps: cases for cases.mjs.
import assert from "node:assert/strict";
import { Centrifuge as Json } from "centrifuge";
import { Centrifuge as Protobuf } from "centrifuge/build/protobuf";
import { EventSource, WebSocket } from "./patient.mjs";

let url, transport, encoding, scenario, key, token, name; // of the case that is played: see `run`
const opened = [];
const PATHS = { websocket: "connection/websocket", http_stream: "connection/http_stream", sse: "connection/sse" };
const pack = (data) => (encoding === "json" ? data : new TextEncoder().encode(JSON.stringify(data)));
const unpack = (data) => (data instanceof Uint8Array ? JSON.parse(new TextDecoder().decode(data)) : data);
const byKey = (entries) => Object.fromEntries(entries.map(({ key, data }) => [key, unpack(data)]));

async function api(method, request) {
  const headers = { "X-API-Key": key, "Content-Type": "application/json" };
  const reply = await fetch(`${url}/api/${method}`, { method: "POST", headers, body: JSON.stringify(request) });
  const { result, error } = await reply.json();
  assert.ok(result, JSON.stringify(error));
  return result;
}

function connect(options = {}) {
  const base = transport === "websocket" ? url.replace("http", "ws") : url;
  const client = new (encoding === "json" ? Json : Protobuf)([{ transport, endpoint: `${base}/${PATHS[transport]}` }], {
    emulationEndpoint: `${url}/emulation`,
    websocket: WebSocket,
    eventsource: EventSource,
    fetch,
    readableStream: ReadableStream,
    minReconnectDelay: 10,
    maxReconnectDelay: 50,
    ...options,
  });
  opened.push(client);
  client.on("connected", (context) => (client.id = context.client));
  client.connect();
  return client;
}

/** A map and all that it said: sync and update, in order. */
function listen(client, channel, options = {}, make = "newMapSubscription") {
  const subscription = client[make](channel, { minResubscribeDelay: 10, maxResubscribeDelay: 50, ...options });
  const said = [];
  subscription.on("sync", ({ entries }) => said.push({ sync: byKey(entries) }));
  subscription.on("update", ({ key, data, removed }) => said.push(removed ? { key, removed } : { key, data: unpack(data) }));
  subscription.on("subscribed", ({ wasRecovering, recovered }) => said.push({ wasRecovering, recovered }));
  subscription.subscribe();
  const next = async () => {
    for (let left = 1000; !said.length; left--) {
      assert.ok(left, "nothing came");
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return said.shift();
  };
  return Object.assign(subscription, { said, next, updates: async (count) => {
    const got = [];
    while (got.length < count) {
      const it = await next();
      if (it.key) got.push(it);
    }
    return got;
  } });
}

const byChange = (updates) => updates.map(({ key, data }) => `${key}:${data}`).sort();

const BEGUN = { wasRecovering: false, recovered: false };
const RECOVERED = { wasRecovering: true, recovered: true };

const SCENARIOS = {
  async changes() {
    const [a, b] = [connect(), connect()];
    for (const mode of ["ephemeral", "recoverable", "persistent"]) {
      const channel = `${mode}:${name}`;
      await api("map_publish", { channel, key: "old", data: [1] });
      const first = listen(a, channel);
      assert.deepEqual([await first.next(), await first.next()], [BEGUN, { sync: { old: [1] } }]);
      await first.publish("mine", pack({ by: "a" }));
      await first.remove("old");
      await first.remove("nothing");
      const updates = [{ key: "mine", data: { by: "a" } }, { key: "old", removed: true }];
      assert.deepEqual([await first.next(), await first.next()], updates);
      const second = listen(b, channel);
      assert.deepEqual([await second.next(), await second.next()], [BEGUN, { sync: { mine: { by: "a" } } }]);
      await api("map_add", { channel, key: "n", number: 2 });
      for (const each of [first, second]) assert.deepEqual(await each.next(), { key: "n", data: 2 });
      await api("map_clear", { channel });
      for (const each of [first, second]) assert.equal((await each.updates(2)).filter((it) => it.removed).length, 2);
    }
  },

  async pages() {
    for (const mode of ["persistent", "ephemeral"]) {
      const channel = `${mode}:${name}`;
      const expected = {};
      for (let number = 0; number < 25; number++) {
        expected[`k${number}`] = number;
        await api("map_publish", { channel, key: `k${number}`, data: number });
      }
      const map = listen(connect(), channel, { pageSize: 4 });
      assert.deepEqual([await map.next(), await map.next()], [BEGUN, { sync: expected }]);
      await map.publish("more", pack(1));
      assert.deepEqual(await map.next(), { key: "more", data: 1 });
    }
  },

  async meanwhile() {
    for (const mode of ["persistent", "ephemeral"]) {
      const channel = `${mode}:${name}`;
      for (let number = 10; number < 40; number++) await api("map_publish", { channel, key: `k${number}`, data: number });
      const map = listen(connect(), channel, { pageSize: 1 });
      for (let number = 10; number < 20; number++) {
        await api("map_publish", { channel, key: `k${number}`, data: "again" });
        await api("map_remove", { channel, key: `k${number + 10}` });
        await api("map_publish", { channel, key: `n${number}`, data: number });
      }
      await api("map_publish", { channel, key: "last", data: 1 });
      const { entries } = await api("map_read_state", { channel });
      let got = {};
      while (!("last" in got)) {
        const it = await map.next();
        if (it.sync) got = it.sync;
        else if (it.removed) delete got[it.key];
        else if (it.key) got[it.key] = it.data;
      }
      assert.deepEqual(got, byKey(entries.map(({ key, data }) => ({ key, data }))));
      assert.deepEqual(Object.keys(got).length, 31);
    }
  },

  async recovery() {
    for (const mode of ["recoverable", "persistent", "small", "ephemeral"]) {
      const channel = `${mode}:${name}`;
      const client = connect();
      const map = listen(client, channel);
      assert.deepEqual([await map.next(), await map.next()], [BEGUN, { sync: {} }]);
      await map.publish("before", pack(1));
      await map.next();
      client.disconnect();
      for (const key of ["a", "b", "c"]) await api("map_publish", { channel, key, data: key });
      await api("map_remove", { channel, key: "a" });
      client.connect();
      if (mode === "recoverable" || mode === "persistent") {
        const changes = [{ key: "a", data: "a" }, { key: "b", data: "b" }, { key: "c", data: "c" }, { key: "a", removed: true }];
        assert.deepEqual([await map.next(), ...(await map.updates(4))], [RECOVERED, ...changes]);
      } else {
        assert.equal((await map.next()).recovered, false);
        assert.deepEqual(await map.next(), { sync: { before: 1, b: "b", c: "c" } });
      }
      await map.publish("after", pack(2));
      assert.deepEqual(await map.next(), { key: "after", data: 2 });
      assert.deepEqual(map.said, []);
    }
    const client = connect();
    const fatal = listen(client, `small:${name}`, { unrecoverableStrategy: "fatal" });
    await fatal.ready(5000);
    fatal.unsubscribe();
    for (let number = 0; number < 4; number++) await api("map_publish", { channel: `small:${name}`, key: "x", data: number });
    const ended = new Promise((resolve) => fatal.once("unsubscribed", resolve));
    fatal.subscribe();
    assert.equal((await ended).code, 112);
  },

  async expiry() {
    const channel = `recoverable:${name}`;
    const map = listen(connect(), channel);
    await map.ready(5000);
    await api("map_publish", { channel, key: "a", data: 1, ttl: 0.3 });
    assert.deepEqual(await map.updates(2), [{ key: "a", data: 1 }, { key: "a", removed: true }]);
  },

  async filter() {
    const channel = `persistent:${name}`;
    const put = (key, team) => api("map_publish", { channel, key, data: team, tags: { team } });
    await put("a", "red");
    await put("b", "blue");
    const map = listen(connect(), channel, { tagsFilter: { key: "team", cmp: "eq", val: "red" } });
    assert.deepEqual([await map.next(), await map.next()], [BEGUN, { sync: { a: "red" } }]);
    await put("c", "blue");
    await put("d", "red");
    assert.deepEqual(await map.next(), { key: "d", data: "red" });
    await api("map_remove", { channel, key: "b" });
    await api("map_remove", { channel, key: "a" });
    assert.deepEqual(await map.next(), { key: "a", removed: true });
  },

  async deltas() {
    const text = "ein längerer Text, der bleibt; 日本語も 🙂; ".repeat(20);
    const value = (number) => ({ pad: "x".repeat((number * 5) % 11), text, sign: "äöü€日"[number % 5], number });
    for (const mode of ["ephemeral", "persistent"]) {
      const channel = `${mode}-delta:${name}`;
      const put = (key, number) => api("map_publish", { channel, key, data: value(number) });
      await put("old", 0);
      const client = connect();
      const map = listen(client, channel, { delta: "fossil" });
      const plain = listen(connect(), channel);
      for (const each of [map, plain]) assert.deepEqual([await each.next(), await each.next()], [BEGUN, { sync: { old: value(0) } }]);
      const changes = [];
      for (let number = 0; number < 10; number++) {
        for (const key of ["a", "b"]) {
          await map.publish(key, pack(value(number)));
          changes.push({ key, data: value(number) });
        }
      }
      for (const each of [map, plain]) assert.deepEqual(await each.updates(20), changes);
      const { numFullPayloads, numDeltaPayloads, bytesReceived, bytesDecoded } = map.deltaStats();
      assert.deepEqual([numFullPayloads, numDeltaPayloads], [3, 18]); // `old`, and the first of each key
      assert(bytesReceived < bytesDecoded / 4, `${bytesReceived} bytes of ${bytesDecoded}`);

      const late = listen(connect(), channel, { delta: "fossil" });
      const paged = listen(connect(), channel, { delta: "fossil", pageSize: 1 });
      const state = { old: value(0), a: value(9), b: value(9) };
      for (const each of [late, paged]) assert.deepEqual([await each.next(), await each.next()], [BEGUN, { sync: state }]);
      const all = [map, plain, late, paged];
      await map.remove("a");
      const again = [{ key: "a", removed: true }, ...["a", "b", "old", "a", "b"].map((key, at) => ({ key, data: value(at) }))];
      for (const { key, data } of again.slice(1)) await put(key, data.number);
      for (const each of all) assert.deepEqual(await each.updates(6), again);

      client.disconnect();
      await put("a", 20);
      client.connect();
      const back = mode === "persistent" ? [RECOVERED, { key: "a", data: value(20) }] : [BEGUN, { sync: { a: value(20), b: value(4), old: value(2) } }];
      assert.deepEqual([await map.next(), await map.next()], back);
      for (const each of all.slice(1)) assert.deepEqual(await each.updates(1), [{ key: "a", data: value(20) }]);
      const last = ["b", "old", "a", "b"].map((key, at) => ({ key, data: value(30 + at) }));
      for (const { key, data } of last) await put(key, data.number);
      for (const each of all) assert.deepEqual(await each.updates(4), last);
      const stats = map.deltaStats();
      assert.equal(stats.numPublications, stats.numFullPayloads + stats.numDeltaPayloads);
      for (const each of all) each.unsubscribe();
    }
  },

  async debounce() {
    const [writing, reading] = [connect(), connect()];
    const channel = `debounced:${name}`;
    const map = listen(reading, channel);
    await map.ready(5000);
    const own = listen(writing, channel);
    await own.ready(5000);
    for (let number = 0; number < 50; number++) own.publish("a", pack(number));
    await own.publish("b", pack("another key"));
    assert.deepEqual(byChange(await map.updates(3)), ["a:0", "a:49", "b:another key"]);
    const [got, stream] = [[], writing.newSubscription(`paced:${name}`)];
    stream.on("publication", ({ data }) => got.push(unpack(data)));
    stream.subscribe();
    await stream.ready(5000);
    for (let number = 0; number < 50; number++) stream.publish(pack(number));
    while (got.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(got, [0, 49]);
  },

  async rights() {
    const client = connect();
    await client.ready(5000);
    const own = listen(client, `own:${name}`);
    await own.ready(5000);
    const refused = async (promise, code) => assert.rejects(promise, { code });
    await own.publish("whatever", pack(1));
    const [{ key }] = await own.updates(1);
    assert.match(key, /^[0-9a-f]{24}$/);
    await refused(client.mapPublish(`reading:${name}`, "k", pack(1)), 103);
    await refused(client.mapPublish(`own:elsewhere`, "k", pack(1)), 103);
    const stream = client.newMapSubscription(`plain:${name}`);
    const ended = new Promise((resolve) => stream.once("unsubscribed", resolve));
    stream.subscribe();
    const why = await ended;
    assert.equal(why.code, 108);
    assert.match(why.reason, /state/);
  },

  async presence() {
    const [watching, one, two] = [connect(), connect({ token }), connect({ token })];
    for (const each of [watching, one, two]) await each.ready(5000);
    const [first, second] = [one.id, two.id];
    const shown = `here:${name}`;
    const watch = (kind, client) => {
      const make = { clients: "newMapClientsSubscription", users: "newMapUsersSubscription" }[kind];
      const map = listen(client, `${kind}:${shown}`, { pageSize: 1 }, make);
      map.infos = [];
      map.on("update", ({ info }) => info && map.infos.push(info));
      return map;
    };
    const map = watch("clients", watching);
    const users = watch("users", watching);
    for (const each of [map, users]) assert.deepEqual([await each.next(), await each.next()], [BEGUN, { sync: {} }]);
    const here = one.newSubscription(shown);
    here.subscribe();
    assert.deepEqual(await map.next(), { key: first, data: { user: "alice" } });
    assert.deepEqual([map.infos[0].client, map.infos[0].user], [first, "alice"]);
    assert.deepEqual(await users.next(), { key: "alice", data: {} });
    two.newMapSubscription(shown).subscribe();
    assert.deepEqual(await map.next(), { key: second, data: { user: "alice" } });
    const late = watch("clients", connect());
    const both = { [first]: { user: "alice" }, [second]: { user: "alice" } };
    assert.deepEqual([await late.next(), await late.next()], [BEGUN, { sync: both }]);
    const { entries } = await api("map_read_state", { channel: `users:${shown}` });
    assert.deepEqual(entries, [{ key: "alice", data: {} }]);
    here.unsubscribe();
    for (const each of [map, late]) assert.deepEqual(await each.next(), { key: first, removed: true });
    two.disconnect();
    for (const each of [map, late]) assert.deepEqual(await each.next(), { key: second, removed: true });
    assert.deepEqual(await users.next(), { key: "alice", removed: true });
    for (const [channel, code] of [["clients:closed:1", 103], ["clients:plain:1", 108], ["users:nothing", 102]]) {
      const refused = watching.newMapClientsSubscription(channel);
      const ended = new Promise((resolve) => refused.once("unsubscribed", resolve));
      refused.subscribe();
      assert.equal((await ended).code, code);
    }
    await assert.rejects(watching.mapPublish(`clients:${shown}`, "me", pack(1)), { code: 103 });
  },

  async others() {
    const channel = `persistent:${name}`;
    const client = connect();
    await api("map_publish", { channel, key: "a", data: 1 });
    const [got, plain] = [[], client.newSubscription(channel)];
    plain.on("publication", ({ data }) => got.push(unpack(data)));
    plain.subscribe();
    await plain.ready(5000);
    const map = listen(connect(), channel);
    await map.ready(5000);
    await plain.publish(pack({ key: "b", value: 2 }));
    assert.deepEqual(await map.updates(1), [{ key: "b", data: 2 }]);
    while (got.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(got, [{ state: { a: 1 } }, { key: "b", value: 2 }]);
  },
};

/** key: of the server API. token: of alice. */
export async function run(...given) {
  [url, transport, encoding, scenario, key, token] = given;
  name = `${scenario}-${transport}-${encoding}-${process.pid}`;
  await SCENARIOS[scenario]();
  for (const client of opened.splice(0)) client.disconnect();
}
