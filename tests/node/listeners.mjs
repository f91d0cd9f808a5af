// Every official JavaScript client on one channel: node listeners.mjs URL CHANNEL
// Writes a line of JSON for each thing that happens to one: { client, event, data }. Runs until its input ends.
import { createInterface } from "node:readline";
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { Centrifuge } from "centrifuge";
import { EventSource } from "eventsource";
import { createEventSource } from "eventsource-client";
import { io } from "socket.io-client";
import { seconds } from "./patience.mjs";
import * as patient from "./patient.mjs";

const [url, channel] = process.argv.slice(2);
const stream = `${url}/channels/${channel}?since=oldest`;

const say = (client, event, data) => console.log(JSON.stringify({ client, event, data }));

/** What a page does with each message. An empty one, such as a heartbeat must not be, throws here. */
function heard(client, text) {
  try {
    say(client, "data", JSON.parse(text));
  } catch (error) {
    say(client, "error", `${error.message}: ${JSON.stringify(text)}`);
  }
}

function centrifuge(transport) {
  const client = `centrifuge ${transport}`;
  const endpoint = `${transport === "websocket" ? url.replace("http", "ws") : url}/connection/${transport}`;
  const made = new Centrifuge([{ transport, endpoint }], {
    websocket: patient.WebSocket,
    eventsource: patient.EventSource,
    emulationEndpoint: `${url}/emulation`,
    minReconnectDelay: 50,
    maxReconnectDelay: 200,
  });
  made.on("connecting", ({ code, reason }) => code && say(client, "lost", `${code} ${reason}`));
  made.on("disconnected", ({ code, reason }) => say(client, "error", `${code} ${reason}`));
  const subscription = made.newSubscription(channel);
  subscription.on("subscribed", ({ wasRecovering, recovered }) => {
    say(client, wasRecovering && !recovered ? "error" : "there", "subscribed");
  });
  subscription.on("publication", ({ data }) => say(client, "data", data));
  subscription.subscribe();
  made.connect();
}

/** It goes on where it stopped: each event is one publication. */
function socketio(client, transports) {
  const socket = io(url, { transports, forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200 });
  let [epoch, offset] = [undefined, 0];
  socket.on("message", (data) => (offset++, say(client, "data", data)));
  socket.on("disconnect", (reason) => say(client, "lost", reason));
  socket.on("connect", async () => {
    try {
      const since = epoch ? [{ epoch, offset }] : [];
      const place = await socket.timeout(seconds(5)).emitWithAck("subscribe", channel, ...since);
      epoch = place.epoch;
      say(client, place.error ? "error" : "there", place);
    } catch (error) {
      if (socket.connected) say(client, "error", error.message);
    }
  });
}

function eventsource() {
  const client = "eventsource";
  const source = new EventSource(stream);
  source.addEventListener("subscribed", () => say(client, "there"));
  source.onmessage = ({ data }) => heard(client, data);
  source.onerror = () => say(client, source.readyState === EventSource.CLOSED ? "error" : "lost");
}

function fetched() {
  const client = "fetch-event-source";
  globalThis.window = globalThis; // it is made for pages
  globalThis.document = { addEventListener() {}, removeEventListener() {} };
  fetchEventSource(stream, {
    openWhenHidden: true,
    onmessage: ({ event, data }) => {
      if (event === "subscribed") say(client, "there");
      else if (event === "disconnected") JSON.parse(data);
      else heard(client, data);
    },
    onclose() {
      throw new Error("the stream ended"); // so that it comes back, as its README has it
    },
    onerror: () => say(client, "lost"),
  });
}

function created() {
  const client = "eventsource-client";
  createEventSource({
    url: stream,
    onMessage: ({ event, data }) => {
      if (event === "subscribed") say(client, "there");
      else if (event === "disconnected") JSON.parse(data);
      else heard(client, data);
    },
    onDisconnect: () => say(client, "lost"),
  });
}

for (const transport of ["websocket", "sse", "http_stream"]) centrifuge(transport);
for (const transport of ["polling", "websocket"]) socketio(`socket.io-client ${transport}`, [transport]);
socketio("socket.io-client upgrade", ["polling", "websocket"]);
for (const open of [eventsource, fetched, created]) open();
process.on("unhandledRejection", () => {}); // of requests to a server that is away, which some do not catch
createInterface({ input: process.stdin }).on("close", () => process.exit(0));
