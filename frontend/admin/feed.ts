// What the page knows: the samples of the last minutes, the lists of now, and calls to the server. Fed by Freshet itself.

import { Centrifuge } from "centrifuge";

export interface NodeNumbers {
  id: string;
  host: string;
  process: number;
  state: string;
  uptime: number;
  clients: number;
  channels: number;
  subscriptions: number;
  outbox: number;
  behind: number;
  /** Clients so far, and how many of them came back. */
  connected: number;
  returned: number;
  received: number;
  received_bytes: number;
  sent: number;
  sent_bytes: number;
  published: number;
  delivered: number;
  refused: number;
  problems: number;
  /** The counts of a histogram's buckets; their bounds are in `About`. */
  latency: number[];
  round_trip: number[];
  lag: number[];
  cpu: number;
  memory: number;
  /** Clients by protocol and transport. */
  ways: Record<string, number>;
}

/** users: of all nodes together. estimated: as far as that could be told without asking each node for all of them. */
export interface Sample {
  at: number;
  users: number;
  estimated: boolean;
  nodes: NodeNumbers[];
}

export interface ClientItem {
  id: string;
  user: string;
  node: string;
  dialect: string;
  transport: string;
  waiting: number;
  subscriptions: number;
  expires: number;
  /** Of the last ping, in seconds. */
  round_trip: number | null;
  address: string;
  info: string;
  channels: string[];
}

export interface Problem {
  at: number;
  level: string;
  source: string;
  text: string;
  node: string;
}

export interface Lists {
  channels: [string, number, number][];
  slow: ClientItem[];
  problems: Problem[];
}

export interface TailItem {
  at: number;
  kind: string;
  channel?: string;
  offset?: number;
  data?: string;
  size?: number;
  user?: string;
  client?: string;
  command?: string;
  method?: string;
  event?: string;
  refused?: string;
  why?: string;
  tags?: Record<string, string>;
}

export interface About {
  allow: string[];
  node: string;
  version: string;
  open: boolean;
  /** Of the buckets of histograms, in seconds. */
  bounds: number[];
}

export type State = "connecting" | "live" | "lost" | "locked" | "closed";

/** Whether the server said no. Whatever else goes wrong is the connection, of which the header tells. */
export const refused = (error: unknown): boolean => ((error as { code?: number }).code ?? 0) >= 100;

const KEY = "freshet.admin.key"; // of this tab alone
const KEPT = 300; // samples
const WRONG_KEY = 4501;

export class Feed {
  samples: Sample[] = [];
  lists: Lists = { channels: [], slow: [], problems: [] };
  /** Events of each channel in a second, by its name. */
  rates = new Map<string, number>();
  about: About = { allow: [], node: "", version: "", open: false, bounds: [] };
  changed: () => void = () => undefined;
  stateChanged: (state: State, text: string) => void = () => undefined;
  private client: Centrifuge | null = null;
  private listed = 0;

  open(key = sessionStorage.getItem(KEY) ?? ""): void {
    this.client?.disconnect();
    const url = new URL("connection/websocket", location.href.replace(/[?#].*/, ""));
    url.protocol = url.protocol.replace("http", "ws");
    const client = (this.client = new Centrifuge(url.href, { data: { key }, maxReconnectDelay: 3_000 }));
    client.on("connecting", ({ code, reason }) =>
      code ? this.stateChanged("lost", `Connection lost (${reason}). Trying again…`) : this.stateChanged("connecting", "Connecting…"),
    );
    client.on("connected", ({ data }) => {
      this.about = data as About;
      if (key) sessionStorage.setItem(KEY, key);
      this.stateChanged("live", "Live");
    });
    client.on("disconnected", ({ code, reason }) => {
      if (client !== this.client) return;
      if (code === WRONG_KEY) this.stateChanged("locked", key ? "This is not the key." : "");
      else this.stateChanged("closed", `Disconnected: ${reason}`);
    });
    this.follow(client);
    client.connect();
  }

  get hasKey(): boolean {
    return sessionStorage.getItem(KEY) !== null;
  }

  forget(): void {
    sessionStorage.removeItem(KEY);
    location.reload();
  }

  async call<T>(method: string, data: unknown): Promise<T> {
    if (!this.client) throw new Error("not connected");
    return (await this.client.rpc(method, data)).data as T;
  }

  /** What happens in `channel:NAME` or `user:NAME`, until the answer is called. */
  tail(topic: string, take: (items: TailItem[], leftOut: number) => void): () => void {
    const client = this.client;
    if (!client) return () => undefined;
    const name = `tail:${topic}`;
    const subscription = client.getSubscription(name) ?? client.newSubscription(name);
    subscription.on("publication", ({ data }) => {
      const { items, left_out } = data as { items: TailItem[]; left_out: number };
      take(items, left_out);
    });
    subscription.subscribe();
    return () => {
      subscription.removeAllListeners();
      subscription.unsubscribe();
      client.removeSubscription(subscription);
    };
  }

  private follow(client: Centrifuge): void {
    // From the beginning of its log: the charts have a past as soon as the page opens.
    const overview = client.newSubscription("overview", { since: { offset: 0, epoch: "" } });
    overview.on("publication", ({ data }) => {
      this.samples.push(data as Sample);
      if (this.samples.length > KEPT) this.samples.shift();
      this.changed();
    });
    overview.subscribe();
    const lists = client.newSubscription("lists");
    lists.on("publication", ({ data }) => this.list(data as Lists));
    lists.subscribe();
  }

  private list(lists: Lists): void {
    const now = performance.now() / 1000;
    const before = new Map(this.lists.channels.map(([name, , events]) => [name, events]));
    const passed = now - this.listed;
    for (const [name, , events] of lists.channels) {
      const earlier = before.get(name);
      if (earlier !== undefined && passed > 0) this.rates.set(name, Math.max(0, events - earlier) / passed);
    }
    this.listed = now;
    this.lists = lists;
  }
}
