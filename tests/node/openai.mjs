// OpenAI's client, unmodified, against a server: node openai.mjs URL TOKEN SCENARIO
import assert from "node:assert/strict";
import OpenAI from "openai";

const [baseURL, apiKey, scenario] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey });
const counted = (n) => Array.from({ length: n }, (_, i) => `${i} `).join("");

const scenarios = {
  async completes() {
    const messages = [{ role: "user", content: "count 20 2" }];
    const whole = await client.chat.completions.create({ model: "m", messages });
    assert.equal(whole.choices[0].message.content, counted(20));
    const runner = client.chat.completions.stream({ model: "m", messages: [{ role: "user", content: "think" }] });
    assert.equal(await runner.finalContent(), "It is cold.");
    const failing = await client.chat.completions.create({
      model: "m",
      messages: [{ role: "user", content: "fail" }],
      stream: true,
    });
    await assert.rejects(async () => {
      for await (const _ of failing);
    }, /internal server error/);
  },
  async responds() {
    const stream = await client.responses.create({ model: "m", input: "count 60 10", stream: true, background: true });
    let [id, after, text] = ["", 0, ""];
    for await (const event of stream) {
      after = event.sequence_number;
      if (event.type === "response.created") id = event.response.id;
      if (event.type === "response.output_text.delta") text += event.delta;
      if (text.includes("9 ")) break;
    }
    for await (const event of await client.responses.retrieve(id, { stream: true, starting_after: after })) {
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    assert.equal(text, counted(60));
    const final = await client.responses.stream({ model: "m", input: "think" }).finalResponse();
    assert.equal(final.output_text, "It is cold.");
  },
  async cancels() {
    const begun = await client.responses.create({ model: "m", input: "wait", background: true });
    const cancelled = await client.responses.cancel(begun.id);
    assert.equal(cancelled.status, "cancelled");
  },
};

await scenarios[scenario]();
process.exit(0);
