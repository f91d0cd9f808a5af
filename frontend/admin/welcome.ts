// What stands at the root of a server in development: that it runs, a field to publish from, and snippets to paste.

import { Centrifuge } from "centrifuge";
import { highlight } from "../src/highlight";
import { element, make } from "../src/page";
import "./admin.css";
import "./welcome.css";

const CHANNEL = "news";
const SHOWN = 50;
const here = new URL("./", location.href.replace(/[?#].*/, "")).href;
const socket = here.replace(/^http/, "ws");

const SNIPPETS: { name: string; language: "typescript" | "python" | "shell"; code: string; next: string }[] = [
  {
    name: "Browser",
    language: "typescript",
    code: `// No library: a channel is a URL.
const news = new EventSource("${here}channels/${CHANNEL}");

news.onmessage = ({ data }) => console.log(JSON.parse(data));`,
    next: "It comes back by itself after a lost connection, with what it missed.",
  },
  {
    name: "centrifuge",
    language: "typescript",
    code: `import { Centrifuge } from "centrifuge"; // npm install centrifuge

const client = new Centrifuge("${socket}connection/websocket");
const news = client.newSubscription("${CHANNEL}");

news.on("publication", ({ data }) => console.log(data));
news.subscribe();
client.connect();`,
    next: "One connection, many channels; recovery, presence and RPC. There are SDKs for Swift, Kotlin, Dart, Go and C#, too.",
  },
  {
    name: "curl",
    language: "shell",
    code: `# Subscribe:
curl -N -H 'Accept: text/event-stream' ${here}channels/${CHANNEL}

# Publish:
curl -d '{"channel": "${CHANNEL}", "data": "Hello from curl"}' \\
  -H 'Content-Type: application/json' ${here}api/publish`,
    next: "Publish from any language with one POST.",
  },
  {
    name: "Python",
    language: "python",
    code: `from fastapi import FastAPI
from freshet import Freshet

live = Freshet(dev=True)
api = FastAPI(lifespan=live.lifespan)
api.mount("/live", live)

@api.post("/hello")
async def hello() -> None:
    await live.publish("${CHANNEL}", "Hello from Python")`,
    next: "Freshet runs inside your application: no second server.",
  },
];

const messages = element("messages");
const said = element("said");
const code = element("snippet").querySelector("code") as HTMLElement;

function show(snippet: (typeof SNIPPETS)[number]): void {
  if (snippet.language === "shell") code.replaceChildren(snippet.code);
  else code.replaceChildren(highlight(snippet.code, snippet.language));
  element("next").textContent = snippet.next;
  for (const tab of element("kinds").children) {
    const chosen = tab.textContent === snippet.name;
    tab.setAttribute("aria-selected", String(chosen));
    (tab as HTMLElement).tabIndex = chosen ? 0 : -1;
  }
}

for (const snippet of SNIPPETS) {
  const tab = make("button", "", snippet.name);
  tab.type = "button";
  tab.setAttribute("role", "tab");
  tab.setAttribute("aria-controls", "snippet");
  tab.addEventListener("click", () => show(snippet));
  element("kinds").append(tab);
}
element("kinds").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const tabs = [...element("kinds").children] as HTMLElement[];
  const next = step && tabs[(tabs.indexOf(event.target as HTMLElement) + step + tabs.length) % tabs.length];
  if (!next) return;
  next.click();
  next.focus();
});
show(SNIPPETS[0] as (typeof SNIPPETS)[number]);

element("copy").addEventListener("click", () => {
  void navigator.clipboard.writeText(code.textContent ?? "").then(() => {
    element("copy").textContent = "Copied";
    setTimeout(() => (element("copy").textContent = "Copy"), 1_500);
  });
});

function say(state: string, text: string): void {
  element("state").dataset.state = state;
  element("state").textContent = text;
}

const client = new Centrifuge(`${socket}connection/websocket`, { maxReconnectDelay: 3_000 });
client.on("connected", () => say("live", "Live"));
client.on("connecting", ({ code, reason }) => code && say("lost", `Connection lost (${reason}). Trying again…`));
client.on("disconnected", ({ reason }) => say("lost", `Disconnected: ${reason}`));
const subscription = client.newSubscription(CHANNEL, { since: { offset: 0, epoch: "" } });
subscription.on("error", ({ error }) => (said.textContent = `${CHANNEL}: ${error.message}`));
subscription.on("publication", ({ data, offset }) => {
  const text = typeof data === "string" ? data : JSON.stringify(data);
  const line = make("li");
  line.append(make("span", "offset", offset ? `#${offset}` : ""), make("span", "", text));
  messages.prepend(line);
  while (messages.children.length > SHOWN) messages.lastElementChild?.remove();
});
subscription.subscribe();
client.connect();

element("publish").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = element<HTMLInputElement>("text");
  if (!field.value) return;
  void publish(field.value).then((problem) => {
    said.textContent = problem;
    if (!problem) field.select();
  });
});

/** What went wrong, or nothing. */
async function publish(data: string): Promise<string> {
  try {
    const response = await fetch("api/publish", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ channel: CHANNEL, data }),
    });
    const { error } = (await response.json()) as { error?: { message: string } };
    return error?.message ?? "";
  } catch {
    return "The server does not answer.";
  }
}
