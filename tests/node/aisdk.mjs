// The AI SDK's chat, unmodified, against a server: cases for cases.mjs.
import assert from "node:assert/strict";
import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport, WebSocketChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses } from "ai";
import WebSocket from "ws";

let transport, id, api; // of the case that is played: see `run`

function made() {
  if (transport === "http") return new DefaultChatTransport({ api });
  return new WebSocketChatTransport({ url: `${api.replace("http", "ws")}/socket`, webSocket: WebSocket });
}

function chat(messages = [], more = {}) {
  const it = new Chat({ id, messages, transport: made(), onError: (error) => (it.failed = error), ...more });
  return it;
}

async function until(condition, what = condition) {
  const end = Date.now() + 10000;
  while (!condition()) {
    assert(Date.now() < end, `still waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const text = (message) => message?.parts.filter((it) => it.type === "text").map((it) => it.text).join("") ?? "";
const last = (it) => it.messages.at(-1);
const counted = (n) => Array.from({ length: n }, (_, i) => `${i} `).join("");
const kept = async () => (await (await fetch(`${api}/${id}/messages`)).json()).messages;
const stop = async () => assert.equal((await fetch(`${api}/${id}/stop`, { method: "POST" })).status, 204);

const scenarios = {
  async answers() {
    const one = chat();
    await one.sendMessage({ text: "count 20 2" });
    assert.equal(one.status, "ready", String(one.failed));
    assert.equal(text(last(one)), counted(20));
    assert.equal(last(one).parts[0].state, "done");
    await one.sendMessage({ text: "history" });
    assert.equal(text(last(one)), `['count 20 2', '${counted(20)}']`);
    assert.deepEqual((await kept()).map((it) => it.role), ["user", "assistant", "user", "assistant"]);
  },
  async structure() {
    const one = chat();
    await one.sendMessage({ text: "think" });
    assert.equal(one.status, "ready", String(one.failed));
    const kinds = last(one).parts.map((it) => it.type);
    assert.deepEqual(kinds, ["reasoning", "tool-weather", "source-url", "data-chart", "text"]);
    const tool = last(one).parts[1];
    assert.deepEqual([tool.state, tool.input, tool.output], ["output-available", { city: "Oslo" }, { degrees: -3 }]);
    assert.deepEqual(last(one).metadata.usage, { input_tokens: 7, output_tokens: 3 });
    const parts = (await kept()).at(-1).parts;
    assert.deepEqual(parts.map((it) => it.type), kinds);
  },
  async resumes() {
    const one = chat();
    const sent = one.sendMessage({ text: "count 100 10" });
    await until(() => text(last(one)).includes("5 "));
    const reloaded = chat(await kept());
    const second = chat(await kept());
    await Promise.all([reloaded.resumeStream(), second.resumeStream(), sent]);
    for (const it of [one, reloaded, second]) {
      assert.equal(it.status, "ready", String(it.failed));
      assert.equal(text(last(it)), counted(100));
      assert.equal(it.messages.filter((each) => each.role === "assistant").length, 1);
    }
  },
  async stops() {
    const one = chat();
    const sent = one.sendMessage({ text: "wait" });
    await until(() => text(last(one)).includes("2 "));
    const other = chat(await kept());
    const following = other.resumeStream();
    await until(() => other.status === "streaming");
    if (transport === "http") await stop();
    else await one.stop();
    await Promise.all([sent, following]);
    assert.deepEqual([one.status, other.status], ["ready", "ready"], String(other.failed));
    assert.equal(text(last(one)), "0 1 2 ");
    assert.equal(last(other).parts[0].state, "done");
    await one.resumeStream();
    assert.equal(one.status, "ready", String(one.failed));
    assert.equal(text(last(one)), "0 1 2 ");
    assert.equal((await kept()).at(-1).metadata.run.state, "stopped");
  },
  async fails() {
    const one = chat();
    await one.sendMessage({ text: "fail" });
    assert.equal(one.status, "error");
    assert.equal(one.failed.message, "internal server error");
    assert.equal(text(last(one)), "about to ");
  },
  async nothing() {
    const one = chat();
    await one.resumeStream();
    assert.equal(one.status, "ready", String(one.failed));
  },
  async approves() {
    for (const approved of [true, false]) {
      const one = chat([], { id: `${id}-${approved}`, sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses });
      await one.sendMessage({ text: "ask" });
      assert.equal(one.status, "ready", String(one.failed));
      const tool = last(one).parts.find((it) => it.type === "tool-delete");
      assert.equal(tool.state, "approval-requested");
      await one.addToolApprovalResponse({ id: tool.approval.id, approved });
      const end = approved ? "done" : "I leave it.";
      await until(() => one.status === "ready" && text(last(one)).endsWith(end), `${one.status} ${one.failed}`);
      assert.equal(one.messages.length, 2);
      const after = last(one).parts.find((it) => it.type === "tool-delete");
      assert.equal(after.state, approved ? "output-available" : "output-denied");
    }
  },
  async "approves all"() {
    const one = chat([], { sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses });
    await one.sendMessage({ text: "ask 2" });
    const tools = last(one).parts.filter((it) => it.type === "tool-delete");
    assert.deepEqual(tools.map((it) => it.state), ["approval-requested", "approval-requested"]);
    for (const [at, { approval }] of tools.entries()) await one.addToolApprovalResponse({ id: approval.id, approved: !at });
    await until(() => one.status === "ready" && text(last(one)).endsWith("done"), `${one.status} ${one.failed}`);
    const after = last(one).parts.filter((it) => it.type === "tool-delete");
    assert.deepEqual(after.map((it) => it.state), ["output-available", "output-denied"]);
    assert.equal(one.messages.length, 2);
  },
  async branches() {
    const one = chat();
    await one.sendMessage({ text: "count 2 1" });
    await one.sendMessage({ text: "count 3 1" });
    const first = one.messages[0];
    await one.sendMessage({ text: "history", messageId: one.messages[2].id });
    assert.equal(text(last(one)), `['count 2 1', '0 1 ']`);
    await one.sendMessage({ text: "history", messageId: first.id });
    assert.equal(text(last(one)), "[]");
    await one.regenerate();
    assert.equal(text(last(one)), "[]");
    assert.equal(one.messages.length, 2);
  },
};

export async function run(url, way, scenario) {
  [transport, id, api] = [way, `${scenario}-${way}-${process.pid}`, `${url}/ai/chat`];
  await scenarios[scenario]();
}
