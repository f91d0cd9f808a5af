// The official Socket.IO client against a server: cases for cases.mjs.
// TRANSPORTS: polling, websocket, or polling,websocket (it begins with polls and upgrades).
import assert from "node:assert/strict";
import { io } from "socket.io-client";
import { seconds } from "./patience.mjs";
import { relay } from "./relay.mjs";

let url, transports; // of the case that is played: see `run`
const opened = [];

function client(namespace = "/", options = {}) {
  const made = io((options.url ?? url) + namespace, {
    transports: transports.split(","),
    auth: { name: "node" },
    forceNew: true,
    reconnectionDelay: 20,
    reconnectionDelayMax: 50,
    ...options,
  });
  opened.push(made);
  return made;
}

/** Cut a client's line, when there is one: while it polls there may be none at the moment. */
async function lose(line, socket) {
  while (socket.connected) {
    line.cut();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** The arguments of the next such event. */
function next(emitter, event) {
  return new Promise((resolve, reject) => {
    setTimeout(reject, seconds(5), new Error(`still waiting for ${event}`)).unref();
    emitter.once(event, (...given) => resolve(given));
  });
}

async function connected(namespace, options) {
  const made = client(namespace, options);
  await next(made, "connect");
  return made;
}

const scenarios = {
  async acknowledgements() {
    const socket = await connected("/shop");
    assert.deepEqual(await socket.emitWithAck("bid", "lot:42", 10), { lot: "lot:42", amount: 10 });
    assert.deepEqual(await socket.emitWithAck("bid", "lot:42", "ten"), {
      error: { code: 107, message: "amount: Expected `int`, got `str`" },
    });
    assert.equal((await socket.emitWithAck("nothing like it")).error.code, 104);
    socket.on("confirm", (question, answer) => answer(`${question}: yes`));
    assert.equal(await socket.emitWithAck("ask me", "sure?"), "sure?: yes");
    assert.equal(await socket.emitWithAck("ask slowly"), "no answer");
  },

  async late() {
    const line = await relay(url);
    const socket = await connected("/shop", { url: `http://127.0.0.1:${line.port}` });
    let late;
    socket.on("late", (answer) => (late = answer));
    socket.on("confirm", (question, answer) => {
      late("an answer to another call");
      answer("yes");
    });
    assert.equal(await socket.emitWithAck("ask twice"), "yes");
    socket.off("late");
    const back = next(socket, "connect");
    await lose(line, socket);
    await back;
    assert.equal(await socket.emitWithAck("ask me", "and now?"), "yes");
    line.close();
  },

  async numbers() {
    const socket = await connected("/shop");
    assert.equal(await socket.emitWithAck(7, "the name of an event may be a number"), "the name of an event may be a number");
  },

  async slashless() {
    const socket = await connected("/shop", { addTrailingSlash: false });
    assert.deepEqual(await socket.emitWithAck("bid", "lot:42", 10), { lot: "lot:42", amount: 10 });
  },

  async binary() {
    const socket = await connected("/shop");
    const bytes = Buffer.from([0, 1, 254, 255]);
    const back = await socket.emitWithAck("mirror", { a: [bytes, "b"] }, bytes);
    assert.deepEqual(back, [{ a: [bytes, "b"] }, bytes]);
  },

  /** Texts that were cut in the middle of an emoji; and what is refused is refused by itself. */
  async halves() {
    const [socket, other] = [await connected("/shop"), await connected("/")];
    const half = "hi \u{1F600}".slice(0, 4);
    const bytes = Buffer.from([0, 255]);
    assert.deepEqual(await socket.emitWithAck("mirror", half, { [half]: [half] }), [half, { [half]: [half] }]);
    assert.deepEqual(await socket.emitWithAck("mirror", { [half]: bytes }, half), [{ [half]: bytes }, half]);
    await other.emitWithAck("subscribe", "log:halves");
    const got = next(other, "message");
    await other.emitWithAck("publish", "log:halves", { text: half });
    assert.deepEqual(await got, [{ text: half }]);
    const nested = (levels) => JSON.parse("[".repeat(levels) + "]".repeat(levels));
    assert.equal((await other.emitWithAck("publish", "log:halves", nested(3000))).error.code, 107);
    assert.equal((await other.emitWithAck("publish", half, 1)).error.code, 107);
    assert.equal((await other.emitWithAck(half)).error.code, 104);
    assert.ok(socket.connected && other.connected);
  },

  async rooms() {
    const [one, two, other] = [await connected("/shop"), await connected("/shop"), await connected("/")];
    await one.emitWithAck("enter", "lot:1");
    await other.emitWithAck("subscribe", "lot:1");
    const heard = [];
    for (const [name, socket] of Object.entries({ one, two, other }))
      socket.on("price", (...given) => heard.push([name, ...given]));
    const all = [one, two].map((socket) => next(socket, "all"));
    await two.emitWithAck("tell", "lot:1", 12);
    await Promise.all(all);
    assert.deepEqual(heard, [["one", 12, "EUR"]]);
    await one.emitWithAck("exit", "lot:1");
    await two.emitWithAck("tell", "lot:1", 13);
    assert.equal(heard.length, 1);
  },

  async channels() {
    const [one, two] = [await connected("/"), await connected("/")];
    const { epoch, offset } = await one.emitWithAck("subscribe", "log:node");
    const got = next(one, "message");
    const position = await two.emitWithAck("publish", "log:node", { text: "hello" });
    assert.deepEqual(await got, [{ text: "hello" }]);
    assert.deepEqual(position, { epoch, offset: offset + 1 });
    await one.emitWithAck("unsubscribe", "log:node");
    const again = next(one, "message");
    const back = await one.emitWithAck("subscribe", "log:node", { epoch, offset });
    assert.equal(back.recovered, true);
    assert.deepEqual(await again, [{ text: "hello" }]);
    assert.equal((await one.emitWithAck("subscribe", "closed")).error.code, 102);
    assert.equal((await one.emitWithAck("subscribe", 7)).error.code, 107);
  },

  async refused() {
    const [error] = await next(client("/shop", { auth: { name: "nobody" } }), "connect_error");
    assert.equal(error.message, "not you");
    assert.equal(error.data.code, 4603);
    const [unknown] = await next(client("/nowhere"), "connect_error");
    assert.equal(unknown.message, "Invalid namespace");
  },

  /** To the client a connect_error is for good: who is refused for a moment must not get one. */
  async later() {
    const socket = await connected("/shop", { auth: { name: `later ${transports}` } });
    socket.on("connect_error", (error) => assert.equal(error.data, undefined));
    const back = next(socket, "connect");
    socket.emit("come later");
    await back;
  },

  async disconnected() {
    const socket = await connected("/shop");
    const gone = next(socket, "disconnect");
    socket.emit("throw me out");
    assert.equal((await gone)[0], "io server disconnect");
    const other = await connected("/shop");
    const [reason] = await Promise.all([next(other, "disconnect"), other.disconnect()]);
    assert.equal(reason[0], "io client disconnect");
  },

  async heartbeats() {
    const socket = await connected("/shop");
    socket.on("disconnect", (reason) => assert.fail(reason));
    for (let beats = 0; beats < 3; beats++) await next(socket.io, "ping");
    assert.ok(socket.connected);
    socket.off("disconnect");
  },

  async recovered() {
    const line = await relay(url);
    const [one, two] = ["lot:r1", "lot:r2"].map((room) => room + transports);
    const socket = await connected("/kept", { url: `http://127.0.0.1:${line.port}`, auth: { name: "one" } });
    const other = await connected("/kept", { auth: { name: "two" } });
    const got = [];
    socket.on("price", (price) => got.push(price));
    socket.on("all", (text) => got.push(text));
    await socket.emitWithAck("enter", one, two);
    const { id } = socket;
    for (let price = 0; price < 40; price += 4) {
      const heard = next(socket, "price");
      await other.emitWithAck("tell", one, price);
      if (price % 8) await heard;
      const back = next(socket, "connect");
      await lose(line, socket);
      await other.emitWithAck("tell", two, price + 1);
      await other.emitWithAck("tell all", `${price}`);
      await other.emitWithAck("tell", one, price + 3);
      await back;
      assert.ok(socket.recovered, `at ${price}`);
      assert.equal(socket.id, id);
    }
    await socket.emitWithAck("enter", one);
    const of = (rest) => [...Array(10).keys()].map((each) => each * 4 + rest);
    const numbers = got.filter((each) => typeof each === "number");
    assert.deepEqual(numbers.filter((each) => each % 4 === 1), of(1));
    assert.deepEqual(numbers.filter((each) => each % 4 !== 1), of(0).flatMap((each) => [each, each + 3]));
    assert.deepEqual(got.filter((each) => typeof each === "string"), of(0).map(String));
    line.close();
  },

  async unrecovered() {
    const line = await relay(url);
    const through = `http://127.0.0.1:${line.port}`;
    const name = `banned ${transports}`;
    const [socket, other] = [await connected("/kept", { url: through, auth: { name } }), await connected("/kept")];
    const { id } = socket;
    await socket.emitWithAck("enter", "quiet:room");
    let back = next(socket, "connect");
    await lose(line, socket);
    await back;
    assert.equal(socket.recovered, false, "a room without history: nobody knows what was missed");
    assert.notEqual(socket.id, id);
    await socket.emitWithAck("enter", "sealed:room");
    back = next(socket, "connect");
    await lose(line, socket);
    await back;
    assert.equal(socket.recovered, false, "a room that needs a token: nobody has shown one");
    const gone = next(socket, "disconnect");
    socket.emit("throw me out");
    await gone;
    back = next(socket, "connect");
    socket.connect();
    await back;
    assert.equal(socket.recovered, false, "the server sent it away");
    await other.emitWithAck("ban", name);
    const refused = next(socket, "connect_error");
    await lose(line, socket);
    assert.equal((await refused)[0].message, "not you");
    line.close();
  },

  async ordered() {
    const socket = await connected("/shop");
    const got = [];
    socket.on("back", (number) => got.push(number));
    for (let number = 0; number < 500; number++) socket.emit("forth", number);
    await socket.emitWithAck("bid", "lot:1", 1);
    assert.deepEqual(got, [...Array(500).keys()]);
  },
};

export async function run(at, ways, scenario) {
  [url, transports] = [at, ways];
  await scenarios[scenario]();
  if (transports === "polling,websocket") {
    // The manager of whoever is still there has upgraded, or is about to.
    const [socket] = opened.filter((each) => each.connected);
    if (socket && socket.io.engine.transport.name !== "websocket") await next(socket.io.engine, "upgrade");
  }
  for (const socket of opened.splice(0)) socket.disconnect();
}
