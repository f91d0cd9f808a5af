// WebSocket and EventSource for centrifuge in Node. In a browser every message comes in a task of its own, and the client
// relies on that for its order; these two would give it all messages of one read in the same task.
import { EventSource as Events } from "eventsource";
import Socket from "ws";

export class WebSocket extends Socket {
  constructor(url, protocols) {
    super(url, protocols, { allowSynchronousEvents: false });
  }
}

export class EventSource extends Events {
  set onmessage(hear) {
    super.onmessage = (event) => setImmediate(hear, event);
  }

  // The end of a stream is a task of its own, too: it must not overtake a message that came in the same read.
  set onerror(hear) {
    super.onerror = (event) => setImmediate(hear, event);
  }
}
