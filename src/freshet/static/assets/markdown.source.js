const n=`// Markdown as it streams in: blocks that are complete stay the elements that they are, only the last one is made anew.

import { highlight, type Language } from "../../src/highlight";
import { make } from "../../src/page";

const LANGUAGES: Record<string, Language> = { python: "python", py: "python", typescript: "typescript", ts: "typescript" };
// Without a look-ahead to the end of the text from each bracket, of which a hostile answer may have a hundred thousand.
const INLINE = /\`([^\`]+)\`|\\*\\*([^*]+)\\*\\*|\\*([^*\\s][^*]*)\\*|\\[([^[\\]]{1,500})\\]\\((https?:\\/\\/[^\\s)]{1,2000})\\)/g;

/** Shows a text that grows. Whatever it holds, it becomes text and the few elements below, never markup of its own. */
export class Markdown {
  private shown: string[] = [];

  constructor(private readonly target: HTMLElement) {}

  set(text: string): void {
    const blocks = split(text);
    let same = 0;
    while (same < blocks.length && blocks[same] === this.shown[same]) same++;
    while (this.target.children.length > same) this.target.lastChild?.remove();
    for (const block of blocks.slice(same)) this.target.append(render(block));
    this.shown = blocks;
  }
}

/** At empty lines, but not within code. */
function split(text: string): string[] {
  const blocks: string[] = [];
  let [lines, fenced] = [[] as string[], false];
  const end = (): void => {
    if (lines.length) blocks.push(lines.join("\\n"));
    lines = [];
  };
  for (const line of text.split("\\n")) {
    if (line.startsWith("\`\`\`")) {
      if (!fenced) end();
      lines.push(line);
      fenced = !fenced;
      if (!fenced) end();
    } else if (!fenced && !line.trim()) end();
    else lines.push(line);
  }
  end();
  return blocks;
}

function render(block: string): HTMLElement {
  const lines = block.split("\\n");
  const first = lines[0] ?? "";
  if (first.startsWith("\`\`\`")) return code(first.slice(3).trim(), lines.slice(1));
  const heading = /^(#{1,4})\\s+(.*)/.exec(first);
  if (heading) return inline(make("h3"), heading[2] ?? "");
  if (first.startsWith("> ")) return inline(make("blockquote"), lines.map((line) => line.replace(/^>\\s?/, "")).join(" "));
  if (first.startsWith("|")) return table(lines);
  if (/^[-*]\\s/.test(first)) return list(make("ul", "bullets"), lines, /^[-*]\\s+/);
  if (/^\\d+\\.\\s/.test(first)) return list(make("ol"), lines, /^\\d+\\.\\s+/);
  return inline(make("p"), lines.join(" "));
}

function code(language: string, lines: string[]): HTMLElement {
  const block = make("div", "code-block");
  const text = lines.join("\\n").replace(/\\n?\`\`\`\\s*$/, "");
  const copy = make("button", "", "Copy");
  copy.type = "button";
  copy.addEventListener("click", () => {
    void navigator.clipboard.writeText(text).then(() => (copy.textContent = "Copied"));
  });
  const head = make("div", "code-head");
  head.append(make("span", "", language || "text"), copy);
  const pre = make("pre");
  pre.tabIndex = 0;
  const known = LANGUAGES[language];
  pre.append(known ? highlight(text, known) : text);
  block.append(head, pre);
  return block;
}

function list(target: HTMLElement, lines: string[], mark: RegExp): HTMLElement {
  for (const line of lines) {
    if (mark.test(line)) target.append(inline(make("li"), line.replace(mark, "")));
    else target.lastElementChild?.append(" ", ...inline(make("span"), line.trim()).childNodes);
  }
  return target;
}

function table(lines: string[]): HTMLElement {
  const wide = make("div", "wide");
  const rows = lines.filter((line) => !/^\\|[-\\s|:]*$/.test(line));
  const made = make("table");
  rows.forEach((line, number) => {
    const row = made.insertRow();
    for (const cell of line.replace(/^\\||\\|\\s*$/g, "").split("|")) {
      row.append(inline(make(number ? "td" : "th"), cell.trim()));
    }
  });
  wide.append(made);
  return wide;
}

function inline<T extends HTMLElement>(target: T, text: string): T {
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, literal, strong, soft, label, href] = match;
    target.append(text.slice(end, match.index));
    if (literal) target.append(make("code", "", literal));
    else if (strong) target.append(make("strong", "", strong));
    else if (soft) target.append(make("em", "", soft));
    else if (label && href) {
      const link = make("a", "", label);
      Object.assign(link, { href, rel: "noopener noreferrer", target: "_blank" });
      target.append(link);
    }
    end = match.index + whole.length;
  }
  target.append(text.slice(end));
  return target;
}
`;export{n as default};
