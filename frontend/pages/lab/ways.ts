// Three ways to subscribe to one channel, by nothing but what a browser has. Each counts what comes over the wire, and each can
// be cut and goes on where it was.

/** n: its offset in the channel's log. at: the server's clock, milliseconds. */
export interface Message {
  n: number;
  at: number;
}

/** What a way reports to the page. missed: it was published while this way was cut, and came from the log. */
export interface Subscriber {
  take(message: Message, missed: boolean): void;
  state(live: boolean, why?: string): void;
}

const AGAIN = 1_000; // milliseconds before another attempt
const WAIT = 25; // seconds that a poll waits
const encoder = new TextEncoder();
const size = (text: string): number => encoder.encode(text).length;

export abstract class Way {
  bytes = 0; // received, of messages and what is around them
  requests = 0;
  reconnects = 0; // how often it reconnected
  private offset = 0; // of the last message
  private epoch = "";
  private missedUntil = 0;
  private left = false;
  private open = false;

  constructor(
    protected readonly channel: URL,
    private readonly subscriber: Subscriber,
  ) {}

  /** Begin, or go on. */
  async start(): Promise<void> {
    this.open = true;
    try {
      // Where the log stands: a place to begin with, and how much was missed.
      const page = await (await fetch(`${this.channel.href}?limit=0`)).json();
      if (this.left && page.epoch === this.epoch) this.missedUntil = page.offset;
      else this.offset = page.offset;
      this.epoch = page.epoch;
      if (this.left) this.reconnects++;
      if (this.open) this.listen();
    } catch {
      this.lost();
    }
  }

  /** Stop listening, as if the network were gone. */
  stop(why = "Cut"): void {
    this.open = false;
    this.left = true;
    this.close();
    this.subscriber.state(false, why);
  }

  protected abstract listen(): void;
  protected abstract close(): void;

  /** The place from which it goes on. */
  protected since(): string {
    return `${this.epoch}:${this.offset}`;
  }

  protected live(): void {
    if (this.open) this.subscriber.state(true);
  }

  protected take(message: Message): void {
    this.offset = message.n;
    this.subscriber.take(message, message.n <= this.missedUntil);
  }

  /** The connection was lost without our doing: try again. */
  protected lost(): void {
    if (!this.open) return;
    this.stop("Lost. Retrying…");
    setTimeout(() => void this.start(), AGAIN);
  }
}

export class ByWebSocket extends Way {
  private socket: WebSocket | null = null;

  protected listen(): void {
    const url = new URL(this.channel);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("since", this.since());
    this.requests++;
    const socket = (this.socket = new WebSocket(url));
    socket.onopen = () => this.live();
    socket.onmessage = ({ data }) => {
      const length = size(data);
      this.bytes += length + (length < 126 ? 2 : 4); // RFC 6455: the head of a frame
      this.take(JSON.parse(data));
    };
    socket.onclose = () => this.socket === socket && this.lost();
  }

  protected close(): void {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }
}

export class ByEvents extends Way {
  private source: EventSource | null = null;

  protected listen(): void {
    this.requests++;
    const source = (this.source = new EventSource(`${this.channel.href}?since=${encodeURIComponent(this.since())}`));
    source.onopen = () => this.live();
    source.onmessage = ({ data, lastEventId }) => {
      const event = size(`id: ${lastEventId}\ndata: ${data}\n\n`);
      this.bytes += event + event.toString(16).length + 4; // RFC 9112: a chunk, behind its length
      this.take(JSON.parse(data));
    };
    source.onerror = () => this.lost(); // it would reconnect by itself; here it is counted
  }

  protected close(): void {
    this.source?.close();
    this.source = null;
  }
}

export class ByPolls extends Way {
  private poll: AbortController | null = null;

  protected listen(): void {
    const poll = (this.poll = new AbortController());
    this.live();
    void this.repeat(poll.signal).catch(() => this.poll === poll && this.lost());
  }

  private async repeat(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.requests++;
      const query = new URLSearchParams({ since: this.since(), wait: String(WAIT) });
      const response = await fetch(`${this.channel.href}?${query}`, { signal });
      const body = await response.text();
      const head = [...response.headers].map(([name, value]) => `${name}: ${value}\r\n`).join("");
      this.bytes += size(`HTTP/1.1 200 OK\r\n${head}\r\n${body}`);
      for (const { data } of JSON.parse(body).publications) this.take(data);
    }
  }

  protected close(): void {
    this.poll?.abort();
    this.poll = null;
  }
}
