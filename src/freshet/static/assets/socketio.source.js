const e=`// The chat over Socket.IO, by its official client: as much of the other client's words as this page uses. What Socket.IO
// has none for, who is here and what was said before, is asked for by events.

import type { ClientInfo, PublicationContext } from "centrifuge";
import { io, type Socket } from "socket.io-client";
import { infoOf, type Sender } from "./view";

const LOOK = 3_000; // milliseconds between two looks at who is here

type Listener = (context: never) => void;

/** What \`subscribe\` answers. epoch, offset: where the room's log stands; nothing where there is none. */
interface Place {
  epoch?: string;
  offset: number;
  recovered?: boolean;
}

class Emitter {
  private readonly listeners = new Map<string, Listener[]>();

  on(event: string, listener: Listener): this {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
    return this;
  }

  protected notify(event: string, context: unknown): void {
    for (const listener of this.listeners.get(event) ?? []) listener(context as never);
  }
}

/** A room, or who types in it. */
class Room extends Emitter {
  private people = new Map<string, ClientInfo>();
  private readonly name: string;
  private place: { epoch?: string; offset?: number } = {}; // where it stands in the room's log

  constructor(
    private readonly owner: SocketIO,
    readonly channel: string,
  ) {
    super();
    this.name = channel.slice(channel.indexOf(":") + 1);
  }

  subscribe(): void {
    this.owner.enter(this);
  }

  publish(data: unknown): Promise<unknown> {
    return this.owner.ask("publish", this.channel, data);
  }

  async presence(): Promise<{ clients: Record<string, ClientInfo> }> {
    const people = ((await this.owner.ask("people", this.name)) as Sender[]).map(infoOf);
    this.people = new Map(people.map((info) => [info.client, info]));
    return { clients: Object.fromEntries(this.people) };
  }

  async history(): Promise<{ publications: PublicationContext[] }> {
    return { publications: (await this.owner.ask("past", this.name)) as PublicationContext[] };
  }

  /** Subscribe, or recover: what was missed comes right behind the reply. */
  begin(): void {
    const before = this.place;
    this.owner.send("subscribe", [this.channel, before], ({ epoch, offset, recovered }: Place) => {
      if (epoch && !recovered) this.place = { epoch, offset };
      const streamPosition = epoch ? { epoch, offset } : undefined;
      this.notify("subscribed", { wasRecovering: "epoch" in before, recovered: recovered ?? false, streamPosition });
    });
  }

  /** at: \`epoch:offset\`; nothing where there is no log. */
  receive(data: { by: Sender | null }, at: string | null): void {
    const [epoch, offset] = at?.split(":") ?? [];
    if (epoch && offset) this.place = { epoch, offset: Number(offset) };
    const info = data.by ? infoOf(data.by) : undefined;
    this.notify("publication", { channel: this.channel, data, offset: Number(offset ?? 0), info });
  }

  /** Who came, and who went, since the last look. */
  async look(): Promise<void> {
    const before = this.people;
    await this.presence();
    for (const [client, info] of this.people) if (!before.has(client)) this.notify("join", { info });
    for (const [client, info] of before) if (!this.people.has(client)) this.notify("leave", { info });
  }
}

export class SocketIO extends Emitter {
  state = "disconnected";
  private readonly socket: Socket;
  private readonly rooms = new Set<Room>();
  private places = new URLSearchParams(); // of the last event: where it stands in each room

  constructor(url: URL, { data }: { data: object }) {
    super();
    this.socket = io(url.origin, { path: \`\${url.pathname}socket.io/\`, auth: data, autoConnect: false });
    this.socket.on("connect", () => void this.back());
    this.socket.on("disconnect", (reason) => this.gone("connecting", reason));
    this.socket.on("connect_error", ({ message }) => this.gone("connecting", message));
    this.socket.on("message", (data, stamp) => this.receive(data, stamp));
    setInterval(() => {
      for (const room of this.rooms) if (this.socket.connected && room.channel.startsWith("room:")) void room.look().catch(() => undefined);
    }, LOOK);
  }

  setData(data: object): void {
    this.socket.auth = data;
  }

  connect(): void {
    this.socket.io.reconnection(true);
    this.socket.connect();
  }

  /** As if the network were gone: a farewell would end the session for good. */
  disconnect(): void {
    this.socket.io.reconnection(false);
    this.socket.io.engine?.close();
    this.gone("disconnected", "cut");
  }

  newSubscription(channel: string): Room {
    return new Room(this, channel);
  }

  removeSubscription(room: Room): void {
    this.rooms.delete(room);
    if (this.socket.connected) void this.ask("unsubscribe", room.channel);
  }

  enter(room: Room): void {
    this.rooms.add(room);
    if (this.socket.connected) room.begin();
  }

  async rpc(method: string, data: unknown): Promise<{ data: unknown }> {
    return { data: await this.ask(method, data) };
  }

  /** An event, and what it is answered with. Throws what is refused. */
  ask(event: string, ...given: unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => this.send(event, given, resolve, reject));
  }

  /** The same, with the answer before all that comes behind it. */
  send<T>(event: string, given: unknown[], take: (answer: T) => void, fail: (error: Error) => void = () => undefined): void {
    this.socket.timeout(5_000).emit(event, ...given, (error: Error | null, answer: T & { error?: { message: string } }) => {
      if (error) fail(error);
      else if (answer?.error) fail(new Error(answer.error.message));
      else take(answer);
    });
  }

  private async back(): Promise<void> {
    this.state = "connected";
    const entered = [...this.rooms];
    const rooms = await this.ask("rooms", null);
    this.notify("connected", { client: this.socket.id, transport: "Socket.IO", data: { rooms } });
    for (const room of entered) room.begin();
  }

  private gone(state: "connecting" | "disconnected", reason: string): void {
    if (this.state === "disconnected" && state === "connecting" && reason !== "cut" && this.socket.active === false) return;
    this.state = state;
    this.notify(state, { reason });
  }

  /** An event does not say its room; the stamp that it ends with says where the client now stands in each. */
  private receive(data: { by: Sender | null }, stamp: string): void {
    const places = new URLSearchParams(stamp);
    const moved = [...this.rooms].find(({ channel }) => places.get(channel) !== this.places.get(channel));
    this.places = places;
    const room = moved ?? [...this.rooms].find(({ channel }) => channel.startsWith("typing:"));
    room?.receive(data, moved ? places.get(moved.channel) : null);
  }
}
`;export{e as default};
