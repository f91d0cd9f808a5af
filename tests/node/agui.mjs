// AG-UI's client, unmodified, against a server: cases for cases.mjs.
import assert from "node:assert/strict";
import { HttpAgent } from "@ag-ui/client";

let url, threadId; // of the case that is played: see `run`
const counted = (n) => Array.from({ length: n }, (_, i) => `${i} `).join("");

function agent(text, more = {}) {
  const it = new HttpAgent({ url: `${url}/ag-ui/chat`, threadId });
  it.addMessage({ id: `m-${Math.random()}`, role: "user", content: text });
  it.seen = [];
  it.subscribe({ onEvent: ({ event }) => void it.seen.push(event) });
  return Object.assign(it, more);
}

const text = (it) => it.messages.filter((each) => each.role === "assistant").map((each) => each.content ?? "").join("");
const kinds = (it) => it.seen.map((each) => each.type);

async function rest(runId, after) {
  const answer = await fetch(`${url}/ag-ui/chat/${threadId}/runs/${runId}/events?after=${after}`);
  const events = (await answer.text()).split("\n\n").filter((it) => it.includes("data:"));
  return events.map((it) => JSON.parse(it.split("data: ")[1]));
}

const scenarios = {
  async answers() {
    const it = agent("count 20 2");
    await it.runAgent();
    assert.equal(text(it), counted(20));
    assert.deepEqual(it.seen.at(-1).outcome, { type: "success" });
  },
  async structure() {
    const it = agent("think");
    await it.runAgent();
    const seen = kinds(it);
    for (const kind of ["REASONING_START", "TOOL_CALL_START", "TOOL_CALL_RESULT", "CUSTOM", "TEXT_MESSAGE_END"]) {
      assert(seen.includes(kind), kind);
    }
    const call = it.messages.find((each) => each.toolCalls?.length).toolCalls[0];
    assert.deepEqual([call.function.name, call.function.arguments], ["weather", '{"city": "Oslo"}']);
    assert.equal(it.messages.find((each) => each.role === "tool").content, '{"degrees":-3}');
  },
  async fails() {
    const it = agent("fail");
    await it.runAgent().catch(() => {});
    assert.equal(it.seen.at(-1).type, "RUN_ERROR");
    assert.equal(it.seen.at(-1).message, "internal server error");
    assert.equal(text(it), "about to ");
  },
  async stops() {
    const it = agent("wait");
    const running = it.runAgent();
    while (text(it) !== "0 1 2 ") await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal((await fetch(`${url}/ag-ui/chat/${threadId}/stop`, { method: "POST" })).status, 204);
    await running;
    assert.deepEqual(it.seen.at(-1).outcome, { type: "cancelled" });
    assert(kinds(it).includes("TEXT_MESSAGE_END"));
  },
  async resumes() {
    const it = agent("count 60 5");
    const runId = "resumed-run";
    await it.runAgent({ runId });
    const whole = await rest(runId, -1);
    assert.equal(whole[0].type, "RUN_STARTED");
    const said = (events) => events.filter((each) => each.type === "TEXT_MESSAGE_CONTENT").map((each) => each.delta).join("");
    assert.equal(said(whole), counted(60));
    for (const after of [1, 2, 20, 77]) assert.equal(said(await rest(runId, after)), counted(60).slice(Math.max(0, after - 1)));
    assert.equal((await fetch(`${url}/ag-ui/chat/${threadId}/runs/none/events`)).status, 404);
  },
  async approves() {
    const it = agent("ask");
    await it.runAgent();
    assert.equal(it.pendingInterrupts.length, 1);
    await it.runAgent({ resume: [{ interruptId: it.pendingInterrupts[0].id, status: "resolved", payload: {} }] });
    assert(text(it).endsWith("done"), text(it));
    assert.equal(it.messages.find((each) => each.role === "tool").content, "deleted");
  },
  async "approves all"() {
    const it = agent("ask 2");
    await it.runAgent();
    const answers = it.pendingInterrupts.map(({ id }, at) => ({ interruptId: id, status: at ? "cancelled" : "resolved" }));
    assert.equal(answers.length, 2);
    await it.runAgent({ resume: answers });
    assert(text(it).endsWith("done"), text(it));
    assert.deepEqual(it.messages.filter((each) => each.role === "tool").map((each) => each.content), ["deleted", "denied"]);
  },
};

export async function run(at, scenario) {
  [url, threadId] = [at, `${scenario}-${process.pid}`];
  await scenarios[scenario]();
}
