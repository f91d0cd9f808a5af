// The official JavaScript client against a server: cases for cases.mjs.
import assert from "node:assert/strict";
import { Centrifuge } from "centrifuge";
import { seconds } from "./patience.mjs";
import { relay } from "./relay.mjs";
import { EventSource, WebSocket } from "./patient.mjs";

let url, transport, tokens, channel; // of the case that is played: see `run`
const opened = [];

function client(index = 0, options = {}) {
  const { transports = [transport], base = url, ...rest } = options;
  const endpoints = transports.map((each) => ({
    transport: each,
    endpoint: `${each === "websocket" ? base.replace("http", "ws") : base}/connection/${each}`,
  }));
  const made = new Centrifuge(endpoints, {
    websocket: WebSocket,
    eventsource: EventSource,
    emulationEndpoint: `${base}/emulation`,
    token: tokens[index],
    minReconnectDelay: 10,
    maxReconnectDelay: 100,
    timeout: seconds(5),
    ...rest,
  });
  opened.push(made);
  return made;
}

/** The next event of a client or a subscription. (`once` of node:events would reject at any "error" meanwhile.) */
function next(emitter, event) {
  return new Promise((resolve, reject) => {
    setTimeout(reject, seconds(5), new Error(`still waiting for ${event}`)).unref();
    emitter.once(event, resolve);
  });
}

async function connect(index, options) {
  const made = client(index, options);
  const connected = next(made, "connected");
  made.connect();
  await connected;
  return made;
}

/** A subscription that notes its publications. */
async function listen(connected, name = channel, options = {}) {
  const subscription = connected.newSubscription(name, options);
  subscription.got = [];
  subscription.on("publication", ({ data, offset }) => subscription.got.push([offset, data]));
  const subscribed = next(subscription, "subscribed");
  subscription.subscribe();
  await subscribed;
  return subscription;
}

async function until(condition) {
  const end = Date.now() + 5000;
  while (!condition()) {
    assert(Date.now() < end, `still waiting for ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const refused = (code) => (error) => assert.equal(error.code, code) ?? true;

const scenarios = {
  async publish() {
    const [a, b] = await Promise.all([connect(0), connect(1)]);
    const subscriptions = [await listen(a), await listen(b)];
    for (let i = 1; i <= 30; i++) await subscriptions[i % 2].publish({ i });
    const expected = Array.from({ length: 30 }, (_, i) => [i + 1, { i: i + 1 }]);
    for (const { got } of subscriptions) {
      await until(() => got.length === 30);
      assert.deepEqual(got, expected);
    }
  },

  async unsubscribe() {
    const [a, b] = await Promise.all([connect(0), connect(1)]);
    const [quiet, other] = [await listen(a), await listen(b)];
    const left = next(other, "leave");
    quiet.unsubscribe();
    assert.equal((await left).info.user, "alice");
    await other.publish(1);
    await until(() => other.got.length === 1);
    assert.equal(quiet.got.length, 0);
  },

  async presence() {
    const [a, b] = await Promise.all([connect(0), connect(1)]);
    const subscription = await listen(a);
    const joined = [];
    subscription.on("join", ({ info }) => joined.push(info.user));
    await listen(b);
    await until(() => joined.at(-1) === "bob");
    const { clients } = await subscription.presence();
    assert.deepEqual(Object.values(clients).map(({ user }) => user).sort(), ["alice", "bob"]);
    assert.deepEqual(await subscription.presenceStats(), { numClients: 2, numUsers: 2 });
  },

  async history() {
    const subscription = await listen(await connect(0));
    for (let i = 1; i <= 5; i++) await subscription.publish(i);
    const { epoch, publications } = await subscription.history({ limit: -1 });
    assert.deepEqual(publications.map(({ data }) => data), [1, 2, 3, 4, 5]);
    const page = await subscription.history({ limit: 2, since: { offset: 2, epoch } });
    assert.deepEqual(page.publications.map(({ data }) => data), [3, 4]);
    const newest = await subscription.history({ limit: 2, reverse: true });
    assert.deepEqual(newest.publications.map(({ data }) => data), [5, 4]);
    await assert.rejects(subscription.history({ limit: 1, since: { offset: 2, epoch: "elsewhere" } }), refused(112));
  },

  async recovery() {
    const [a, b] = await Promise.all([connect(0), connect(1)]);
    const [away, here] = [await listen(a), await listen(b)];
    await here.publish(0);
    await until(() => away.got.length === 1);
    a.disconnect();
    for (let i = 1; i <= 20; i++) await here.publish(i);
    const back = next(away, "subscribed");
    a.connect();
    const context = await back;
    assert.deepEqual([context.wasRecovering, context.recovered], [true, true]);
    await here.publish(21);
    await until(() => away.got.length === 22);
    assert.deepEqual(away.got.map(([, data]) => data), Array.from({ length: 22 }, (_, i) => i));
  },

  /** Cut again and again; nothing is missed, nothing comes twice. */
  async cut() {
    const line = await relay(url);
    const [a, b] = await Promise.all([connect(0, { base: `http://127.0.0.1:${line.port}` }), connect(1)]);
    const [away, here] = [await listen(a), await listen(b)];
    // The client does not await what it posts, so that a cut in the middle of that is nobody's to catch.
    const forgive = (error) => {
      if (error.message !== "fetch failed") throw error;
    };
    process.on("unhandledRejection", forgive);
    let lost = 0;
    away.on("subscribed", ({ wasRecovering, recovered }) => (lost += wasRecovering && !recovered));
    for (let i = 0; i < 60; i++) {
      await here.publish(i);
      if (i % 10 === 9) line.cut();
    }
    await until(() => away.got.length === 60);
    assert.equal(lost, 0);
    assert.deepEqual(away.got, Array.from({ length: 60 }, (_, i) => [i + 1, i]));
    a.disconnect();
    line.close();
    process.off("unhandledRejection", forgive);
  },

  /** WebSockets are blocked, then streams: whoever comes back by another way goes on where it was. */
  async another_way() {
    const here = await listen(await connect(1));
    const got = [];
    let since;
    for (const way of [transport, "http_stream", "sse", transport]) {
      const client = await connect(0, { transports: [way] });
      const subscription = client.newSubscription(channel, since ? { since } : {});
      subscription.on("publication", ({ data, offset }) => (got.push(data), (since.offset = offset)));
      const subscribed = next(subscription, "subscribed");
      subscription.subscribe();
      const context = await subscribed;
      assert.equal(context.recovered, Boolean(since));
      since ??= { ...context.streamPosition };
      await here.publish(`heard by ${way}`);
      await until(() => got.at(-1) === `heard by ${way}`);
      client.disconnect();
      await here.publish(`missed after ${way}`);
    }
    await until(() => here.got.length === 8);
    assert.deepEqual(got, here.got.map(([, data]) => data).slice(0, -1));
    assert.equal(got.length, 7);
  },

  async unrecovered() {
    const [a, b] = await Promise.all([connect(0), connect(1)]);
    const small = `small:${channel}`;
    const away = await listen(a, small);
    a.disconnect();
    for (let i = 0; i < 3; i++) await b.publish(small, i);
    const back = next(away, "subscribed");
    a.connect();
    const context = await back;
    assert.deepEqual([context.wasRecovering, context.recovered], [true, false]);
    await b.publish(small, "live");
    await until(() => away.got.length === 1);
    assert.deepEqual(away.got[0][1], "live");
  },

  async personal() {
    const made = client(0);
    const subscribed = next(made, "subscribed");
    made.connect();
    assert.equal((await subscribed).channel, "#alice");
  },

  /** Texts that were cut in the middle of an emoji, as `slice` and `maxlength` do. */
  async halves() {
    const [a, b] = await Promise.all([connect(0), connect(1)]);
    const [here, there] = [await listen(a), await listen(b)];
    const half = "hi \u{1F600}".slice(0, 4);
    const sent = [half, { [half]: [half, half + half] }, [1, half]];
    for (const data of sent) await here.publish(data);
    await until(() => there.got.length === sent.length);
    assert.deepEqual(there.got.map(([, data]) => data), sent);
    assert.deepEqual((await there.history({ limit: -1 })).publications.map(({ data }) => data), sent);
    await assert.rejects(a.publish(`${channel}${half}`, 1), refused(107));
    await assert.rejects(here.publish(JSON.parse("[".repeat(3000) + "]".repeat(3000))), refused(107));
    assert.equal(a.state, "connected");
  },

  /** What Freshet does not have is not taken for a stream that stays empty. */
  async kinds() {
    const a = await connect(0);
    const made = [
      a.newMapSubscription(`${channel}:map`),
      a.newMapClientsSubscription(`${channel}:clients`),
      a.newMapUsersSubscription(`${channel}:users`),
      a.newSharedPollSubscription(`${channel}:poll`, { getSignature: async () => ({ keys: [], signature: "" }) }),
    ];
    for (const subscription of made) {
      const ended = next(subscription, "unsubscribed");
      subscription.on("subscribed", () => assert.fail("taken for a stream"));
      subscription.subscribe();
      const { code, reason } = await ended;
      assert.equal(code, 108);
      assert.match(reason, /not available/);
    }
    assert.equal(a.state, "connected");
    await listen(a);
    await assert.rejects(a.mapPublish(channel, "key", 1), refused(108));
    await assert.rejects(a.mapRemove(channel, "key"), refused(108));
  },

  async refusals() {
    const a = await connect(0);
    await assert.rejects(a.rpc("nothing", {}), refused(108));
    await assert.rejects(a.publish("quiet:1", {}), refused(103));
    await assert.rejects(a.history("not-subscribed", { limit: 1 }), refused(103));
    const closed = a.newSubscription("private:1");
    const unsubscribed = next(closed, "unsubscribed");
    closed.subscribe();
    assert.equal((await unsubscribed).code, 103);
  },

  /** By a client that does not know who has signed the server's certificate. */
  async untrusted() {
    const made = client();
    let connected = false;
    made.on("connected", () => (connected = true));
    made.connect();
    for (let tried = 0; tried < 3; tried++) await next(made, "error");
    assert.ok(!connected);
  },

  async token() {
    const wrong = client(0, { token: `${tokens[0]}A` });
    const ending = next(wrong, "disconnected");
    wrong.connect();
    assert.equal((await ending).code, 3500);
    const [expired, fresh] = tokens.slice(2);
    let asked = 0;
    const returning = client(0, { token: expired, getToken: async () => (asked++, fresh) });
    const connected = next(returning, "connected");
    returning.connect();
    await connected;
    assert.equal(asked, 1);
  },
};

export async function run(...given) {
  let scenario;
  [url, transport, scenario, ...tokens] = given;
  channel = `js-${scenario}-${transport}-${process.pid}`;
  await scenarios[scenario]();
  for (const client of opened.splice(0)) client.disconnect();
}
