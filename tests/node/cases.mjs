// Runs cases of a script one after the other, so that Node and the packages are loaded once: node cases.mjs SCRIPT
// A line of standard input is a case: what the script's `run` is called with, an array in JSON. The answer is a line of
// JSON: null, or what went wrong. Ends when its input does, or with what nobody has caught.
import http from "node:http";
import { createInterface } from "node:readline";

const { run } = await import(`./${process.argv[2]}`);
for await (const line of createInterface({ input: process.stdin })) {
  const wrong = await run(...JSON.parse(line)).then(() => null, (error) => String(error?.stack ?? error));
  http.globalAgent.destroy(); // no case goes on with the connections of the one before
  console.log(JSON.stringify(wrong));
}
process.exit(0);
