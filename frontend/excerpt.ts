// What of a demo's Python says how it is made, at build time: a few blocks of the file, at most twenty lines.

import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";

const MOST = 20; // lines
const PYTHON = resolve(import.meta.dirname, "../src/freshet/demos");
const PAGES = resolve(import.meta.dirname, "pages");

/** starts: the first line of each block, which ends before the next line that is empty; of a function, with its end. */
export function excerpt(name: string, starts: string[]): string {
  const lines = readFileSync(resolve(PYTHON, `${name}.py`), "utf-8").split("\n");
  const blocks = starts.map((start) => {
    const first = lines.indexOf(start);
    if (first < 0) throw new Error(`${name}.py has no line ${JSON.stringify(start)}`);
    const paragraph = (from: number): number => lines.indexOf("", from);
    let end = paragraph(first);
    const whole = lines.slice(first, end).some((line) => /^(async )?def /.test(line));
    while (whole && lines[end + 1]?.startsWith(" ")) end = paragraph(end + 1);
    return lines.slice(first, end).join("\n");
  });
  // Without what a block says of itself: the lines are many enough, and it is in the file.
  const text = blocks.join("\n\n").replace(/^ *""".*"""\n/gm, "");
  if (text.split("\n").length > MOST) throw new Error(`the excerpt of ${name}.py has more than ${MOST} lines`);
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

/** The files of a demo: its Python, then its scripts, the one that the page begins with first. */
export function files(name: string): string[] {
  const scripts = readdirSync(resolve(PAGES, name)).filter((file) => file.endsWith(".ts"));
  scripts.sort((a, b) => Number(b === `${name}.ts`) - Number(a === `${name}.ts`) || (a < b ? -1 : 1));
  return [`${name}.py`, ...scripts];
}
