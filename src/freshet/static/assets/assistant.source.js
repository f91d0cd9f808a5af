const e=`// A talk with a model. This page asks and watches; the answer is written on the server, whether anybody watches or not.

import { Centrifuge } from "centrifuge";
import { beside } from "../../src/beside";
import { address, element } from "../../src/page";
import { Talk, type RunEvent, type Summary } from "./talk";
import { View } from "./exchange";
import "./assistant.css";

const STATES = { connecting: "Connecting…", connected: "Live", disconnected: "Not connected" } as const;

const text = element<HTMLTextAreaElement>("text");
const [send, stop] = [element<HTMLButtonElement>("send"), element<HTMLButtonElement>("stop")];
const breaks = element<HTMLButtonElement>("break");
const kills = element<HTMLButtonElement>("kill");
const client = new Centrifuge(address("assistant"), { maxReconnectDelay: 3_000 });
const name = /^#([0-9a-f]{32})$/.exec(location.hash)?.[1] ?? newName();
history.replaceState(null, "", \`#\${name}\`);
element<HTMLAnchorElement>("second").href = \`#\${name}\`;

const talk = new Talk();
const view = new View(element("log"), talk, {
  edit: (run, asked) => void call("ask", { ask: { text: asked, parent: run.parent || "-" } }),
  choose: (run) => {
    talk.choose(run);
    view.show();
  },
  decide: (approval, approved) => void call("decide", { decision: { approval, approved } }),
  resume: (run) => void call("resume", { resume: run.id }),
});

function newName(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function call(method: string, what: object): Promise<boolean> {
  try {
    await client.rpc(method, { talk: name, ...what });
    element("problem").textContent = "";
    return true;
  } catch (error) {
    element("problem").textContent = \`Not done: \${(error as Error).message}\`;
    return false;
  }
}

const watched = client.newSubscription(\`talk:\${name}\`);
watched.on("publication", ({ data }: { data: Summary | RunEvent }) => {
  if ("messages" in data) talk.begin(data);
  else talk.take(data);
  show("messages" in data || data.seq === 0);
});
watched.on("subscribed", () => show());
watched.subscribe();

function show(follow = false): void {
  view.show(follow);
  const running = talk.running !== undefined;
  send.hidden = running;
  stop.hidden = !running;
  breaks.disabled = kills.disabled = !running;
  element("begin").inert = false;
  element("begin").hidden = talk.runs.size > 0;
}

async function ask(asked: string): Promise<void> {
  if (!asked.trim() || talk.running) return;
  if (await call("ask", { ask: { text: asked, parent: talk.leaf || "-" } })) {
    text.value = "";
    fit();
  }
}

function fit(): void {
  text.style.height = "auto";
  text.style.height = \`\${Math.min(text.scrollHeight + 2, 160)}px\`;
}

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  void ask(text.value);
});
text.addEventListener("input", fit);
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  void ask(text.value);
});
stop.addEventListener("click", () => void call("stop", {}));
breaks.addEventListener("click", () => void call("break", {}));
kills.addEventListener("click", () => void call("kill", {}));
for (const button of element("begin").querySelectorAll("button")) {
  button.addEventListener("click", () => void ask(button.textContent ?? ""));
}
element("new").addEventListener("click", () => {
  location.hash = newName();
  location.reload();
});
const copy = element("copy");
copy.addEventListener("click", () => {
  void navigator.clipboard.writeText(location.href).then(() => (copy.textContent = "Copied"));
});

client.on("connected", ({ data }) => {
  element("model").textContent = data.real ? data.model : \`Local \${data.model}\`;
});
client.on("state", ({ newState }) => {
  element("state").textContent = STATES[newState];
  element("state").dataset.state = newState === "connected" ? "live" : "connecting";
});
client.connect();
beside();
`;export{e as default};
