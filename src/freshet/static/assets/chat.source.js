const e=`// The chat: one room at a time, and for it two subscriptions: what is said, and who is typing.

import { Centrifuge, type ClientInfo, type Subscription } from "centrifuge";
import { address, element } from "../../src/page";
import { Status } from "../../src/status";
import { nameField, visitorName } from "../../src/visitor";
import { infoOf, Log, People, Rooms, Typists, type Message, type Sender } from "./view";
import "./chat.css";

const HISTORY = 50; // messages that a room begins with
const HINT = 2_000; // milliseconds between two hints that the visitor is typing

const data = { name: visitorName() };
const bySocketIO = new URLSearchParams(location.search).get("client") === "socketio";
const client = bySocketIO
  ? ((await socketio()) as unknown as Centrifuge)
  : new Centrifuge(address("chat"), { data, maxReconnectDelay: 3_000 });
const status = new Status(client, "messages");
const rooms = new Rooms(element("rooms"), enter);
const log = new Log(element("log"), () => rooms.current);
const people = new People(element("people"), element("count"));
const typists = new Typists(element("typing"));
const text = element<HTMLInputElement>("text");
let messages: Subscription | null = null;
let typing: Subscription | null = null;

/** The other library is loaded by those who want it. */
async function socketio(): Promise<object> {
  const { SocketIO } = await import("./socketio");
  return new SocketIO(new URL("../", address("chat").replace(/^ws/, "http")), { data });
}

function enter(room: string): void {
  for (const old of [messages, typing]) {
    if (old) client.removeSubscription(old);
  }
  log.clear();
  people.set([]);
  const said = (messages = client.newSubscription(\`room:\${room}\`));
  status.follow<Message>(said, (message, { offset = 0 }, recovered) => {
    const info = sender(message);
    log.add(offset, message, info, recovered);
    if (info) typists.remove(info);
  });
  said.on("subscribed", async ({ recovered }) => {
    people.set(Object.values((await said.presence()).clients));
    if (recovered) return; // what was missed comes as publications, in order
    const { publications } = await said.history({ limit: HISTORY, reverse: true });
    log.begin(publications.reverse().map((each) => ({ ...each, info: sender(each.data as Message) })));
  });
  said.on("join", ({ info }) => people.add(info));
  said.on("leave", ({ info }) => people.remove(info));
  said.subscribe();

  typing = client.newSubscription(\`typing:\${room}\`);
  typing.on("publication", ({ data }) => data.by.client !== people.me && typists.add(infoOf(data.by)));
  typing.subscribe();
}

function sender({ by }: { by: Sender | null }): ClientInfo | undefined {
  return by ? infoOf(by) : undefined;
}

element("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!text.value.trim()) return;
  try {
    await messages?.publish({ text: text.value });
    text.value = "";
    element("problem").textContent = "";
  } catch (error) {
    element("problem").textContent = \`Not sent: \${(error as Error).message}\`;
  }
});

let hinted = 0;
text.addEventListener("input", () => {
  if (!text.value || Date.now() - hinted < HINT) return;
  hinted = Date.now();
  typing?.publish({}).catch(() => undefined); // a hint that is lost is no loss
});

client.on("connected", ({ client: id, data }) => {
  people.me = log.me = id;
  rooms.set(data.rooms);
});
client.on("connecting", () => people.set([]));
client.on("disconnected", () => people.set([]));

status.beforeCut = async () => {
  if (element<HTMLInputElement>("robot").checked) await client.rpc("robot", rooms.current);
};
element(bySocketIO ? "by-socketio" : "by-centrifuge").setAttribute("aria-current", "true");
if (bySocketIO) {
  element<HTMLAnchorElement>("with-the-other").href = "./";
  element<HTMLAnchorElement>("again").href = "./?client=socketio";
}
nameField(element("name"), client);
client.connect();
`;export{e as default};
