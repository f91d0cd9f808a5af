// What there is to see. A new demo is entered here, and in src/freshet/demos/gallery.py.

export interface Demo {
  /** Its page is pages/{name}/index.html, its script pages/{name}/{name}.ts, its Python {name}.py. */
  name: string;
  title: string;
  /** What it shows, in one line. */
  line: string;
  /** What a visitor does on its card: a few words. */
  card: string;
  /** It has one connection, with the status bar above it. */
  status: boolean;
}

export const DEMOS: Demo[] = [
  {
    name: "ticker",
    title: "Stock ticker",
    line: "20 channels over one WebSocket. Turn the market up to 1,000 updates a second.",
    card: "20 channels over one WebSocket, up to 1,000 updates a second.",
    status: true,
  },
  {
    name: "auction",
    title: "Auction",
    line: "A live auction and a flash sale: rooms with a memory. Open it twice and bid against yourself.",
    card: "Bids, a countdown that ends for all at once, and “only 3 left”.",
    status: true,
  },
  {
    name: "ships",
    title: "Paper boats",
    line: "A game for all who are here, at 30 ticks a second: collect drops, and ram others for theirs.",
    card: "A small multiplayer game, at 30 ticks a second.",
    status: true,
  },
  {
    name: "chat",
    title: "Chat",
    line: "Rooms, who is here, who is typing. Cut your connection: what you missed comes back, in order.",
    card: "Rooms, presence, typing. Cut your connection and lose nothing.",
    status: true,
  },
  {
    name: "assistant",
    title: "Assistant",
    line: "Answers that live on the server: reload in the middle, watch from a second window, stop, approve, branch.",
    card: "AI answers that survive a reload. Stop, approve, branch.",
    status: false,
  },
  {
    name: "cursors",
    title: "Shared cursors",
    line: "Everyone on this page sees everyone's pointer, 30 times a second from each.",
    card: "Everyone sees everyone's pointer, 30 times a second from each.",
    status: true,
  },
  {
    name: "lab",
    title: "Transport lab",
    line: "One channel over WebSocket, server-sent events and long polling, side by side: what each costs, and how late it is.",
    card: "WebSocket, SSE and long polling side by side, measured.",
    status: false,
  },
];
