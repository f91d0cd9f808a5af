// What there is to see. A new demo is entered here, and in src/freshet/demos/gallery.py.

export interface Demo {
  /** Its page is pages/{name}/index.html, its script pages/{name}/{name}.ts, its Python {name}.py. */
  name: string;
  title: string;
  /** Its title where there is little room. */
  short: string;
  /** A drawing of 24 by 24, as the path of an SVG. */
  icon: string;
  /** What it shows, in one line. */
  line: string;
  /** What a visitor does on its card: a few words. */
  card: string;
  /** Which blocks of its Python say how it is made: the first line of each. At most twenty lines in all. */
  excerpt: string[];
  /** It has one connection, with the status bar above it. */
  status: boolean;
}

export const DEMOS: Demo[] = [
  {
    name: "ticker",
    title: "Stock ticker",
    short: "Ticker",
    icon: "M3 17l5-6 4 3 8-10M15 4h5v5",
    line: "20 channels over one WebSocket. Turn the market up to 1,000 updates a second.",
    card: "20 channels over one WebSocket, up to 1,000 updates a second.",
    excerpt: ["live = Freshet()", "@live.rpc(\"rate\")", "async def trade() -> None:"],
    status: true,
  },
  {
    name: "auction",
    title: "Auction",
    short: "Auction",
    icon: "M4 20h8M10 4l6 6M7 7l6 6M13 4l-6 6M12 11l8 8",
    line: "A live auction and a flash sale: rooms with a memory. Open it twice and bid against yourself.",
    card: "Bids, a countdown that ends for all at once, and “only 3 left”.",
    excerpt: ["@live.room(\"auction:{house}\")", "    start, window, duration = 100, 10.0, 90.0", "    async def on_sold(self, winner: str, price: int) -> None:", "@live.room(\"stock:{article}\")", "    total, hold, low, most = 12, 15.0, 3, 3", "    async def on_reserve(self, session: RoomSession, reservation: Hold) -> None:"],
    status: true,
  },
  {
    name: "ships",
    title: "Paper boats",
    short: "Boats",
    icon: "M12 3v11M12 4l6 9H6zM3 15h18l-3 5H6z",
    line: "A game for all who are here, at 30 ticks a second: collect drops, and ram others for theirs.",
    card: "A small multiplayer game, at 30 ticks a second.",
    excerpt: ["@live.room(\"pond:{name}\")", "    async def set_up(self) -> None:", "    async def spawn(self, session: RoomSession, before: Entity | None) -> Entity:", "    def steer(self, boat: Entity, row: Row) -> None:"],
    status: true,
  },
  {
    name: "chat",
    title: "Chat",
    short: "Chat",
    icon: "M4 5h16v11H10l-5 4v-4H4z",
    line: "Rooms, who is here, who is typing. Cut your connection: what you missed comes back, in order.",
    card: "Rooms, presence, typing. Cut your connection and lose nothing.",
    excerpt: ["rooms = live.channel(", "@rooms.on_publish"],
    status: true,
  },
  {
    name: "assistant",
    title: "Assistant",
    short: "Assistant",
    icon: "M12 3l2 6 6 2-6 2-2 6-2-6-6-2 6-2zM19 17v4M17 19h4",
    line: "Answers that live on the server: reload in the middle, watch from a second window, stop, approve, branch.",
    card: "AI answers that survive a reload. Stop, approve, branch.",
    excerpt: ["@live.run(\"talk:{talk}\", publish=\"nobody\")", "@answer.resume"],
    status: false,
  },
  {
    name: "cursors",
    title: "Shared cursors",
    short: "Cursors",
    icon: "M5 3l14 8-6 2-3 6z",
    line: "Everyone on this page sees everyone's pointer, 30 times a second from each.",
    card: "Everyone sees everyone's pointer, 30 times a second from each.",
    excerpt: ["live = Freshet()", "@stage.on_publish"],
    status: true,
  },
  {
    name: "lab",
    title: "Transport lab",
    short: "Lab",
    icon: "M9 3h6M10 3v6l-5 9a2 2 0 0 0 2 3h10a2 2 0 0 0 2-3l-5-9V3M8 15h8",
    line: "One channel over WebSocket, server-sent events and long polling, side by side: what each costs, and how late it is.",
    card: "WebSocket, SSE and long polling side by side, measured.",
    excerpt: ["live = Freshet()", "@flows.on_subscribe", "async def flow(rate: int) -> None:"],
    status: false,
  },
];

/** The clients of the home page. Each is pages/home/clients.ts by its name. */
export const CLIENTS = [
  { name: "centrifuge", title: "Centrifuge", call: 'client.newSubscription("river")\n.on("publication", print)' },
  { name: "socketio", title: "Socket.IO", call: 'socket.emit("subscribe", "river")\nsocket.on("message", print)' },
  { name: "curl", title: "curl", call: "curl -N …/channels/river\n-H 'Accept: text/event-stream'" },
];
