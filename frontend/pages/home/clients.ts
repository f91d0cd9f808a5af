// Three clients of one channel, each by its own protocol: the official ones of Centrifuge and Socket.IO, and what
// `curl` does, an HTTP response that does not end. Each can be cut, and goes on where it was.

import { Centrifuge } from "centrifuge";
import { io } from "socket.io-client";

/** n: its offset in the channel's log. at: the server's clock, milliseconds. */
export interface Message {
  n: number;
  at: number;
}

/** What a client reports. raw: how it would print what came. */
export interface Receiver {
  take(message: Message, raw: string): void;
  live(is: boolean): void;
}

/** To cut is to lose the network: no farewell is sent. */
export interface Client {
  cut(): void;
  back(): void;
}

const CHANNEL = "river";
const AGAIN = 1_000; // milliseconds before another request of curl's

/** websocket: where a demo's clients connect. */
export function byCentrifuge(websocket: string, receiver: Receiver): Client {
  const client = new Centrifuge(websocket, { maxReconnectDelay: 3_000 });
  const subscription = client.newSubscription(CHANNEL);
  subscription.on("publication", ({ data, offset }) => {
    receiver.take(data, `publication  offset ${offset}  ${JSON.stringify(data)}`);
  });
  subscription.on("subscribed", () => receiver.live(true));
  subscription.on("subscribing", () => receiver.live(false));
  subscription.subscribe();
  client.connect();
  return { cut: () => client.disconnect(), back: () => client.connect() };
}

export function bySocketIO(websocket: string, receiver: Receiver): Client {
  const url = new URL("../socket.io/", websocket);
  const socket = io(url.origin.replace("ws", "http"), { path: url.pathname, reconnectionDelayMax: 3_000 });
  socket.on("connect", () => {
    if (!socket.recovered) socket.emit("subscribe", CHANNEL);
    receiver.live(true);
  });
  socket.on("disconnect", () => receiver.live(false));
  socket.on("message", (message: Message) => receiver.take(message, `message  ${JSON.stringify(message)}`));
  return {
    cut() {
      socket.io.reconnection(false);
      socket.io.engine?.close();
    },
    back() {
      socket.io.reconnection(true);
      socket.connect();
    },
  };
}

export function byCurl(websocket: string, receiver: Receiver): Client {
  const url = new URL(`../channels/${CHANNEL}`, websocket.replace("ws", "http"));
  let request: AbortController | null = null;
  let last = ""; // the id of the last event: `epoch:offset`

  async function follow(signal: AbortSignal): Promise<void> {
    const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
    const { body } = await fetch(url, { headers, signal });
    if (!body) return;
    receiver.live(true);
    let rest = "";
    for await (const text of pieces(body)) {
      const events = (rest + text).split("\n\n");
      rest = events.pop() ?? "";
      for (const event of events) take(event);
    }
  }

  function take(event: string): void {
    const fields = new Map(event.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]));
    last = fields.get("id") ?? last; // an event with a name is the server's own: whether it recovered
    const data = fields.get("data");
    if (data && !fields.has("event")) receiver.take(JSON.parse(data), `id: ${last}  data: ${data}`);
  }

  function begin(): void {
    const own = (request = new AbortController());
    const over = (): void => {
      receiver.live(false);
      if (request === own) setTimeout(() => request === own && begin(), AGAIN);
    };
    void follow(own.signal).then(over, over);
  }

  function cut(): void {
    request?.abort();
    request = null;
  }

  begin();
  return { cut, back: begin };
}

async function* pieces(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}
