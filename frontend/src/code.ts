// "Show me the code": the files that make the demo, loaded when they are asked for.

import { highlight, type Language } from "./highlight";
import { element, make } from "./page";

const FOLDER = "../pages/";
const SCRIPTS = import.meta.glob<string>("../pages/*/*.ts", { query: "?raw", import: "default" });

/** The page has parts/demo.html, which says whose code it is. */
export function codePanel(): void {
  const panel = element<HTMLDetailsElement>("code");
  const name = panel.dataset.name ?? "";
  panel.addEventListener("toggle", () => {
    const files = element("files");
    if (!panel.open || files.hasChildNodes()) return;
    void show(files, `${name}.py`, "python", () => python(name));
    for (const [path, load] of scriptsOf(name)) void show(files, path.slice(FOLDER.length), "typescript", load);
  });
}

/** The scripts of a demo, the one that it begins with first. */
function scriptsOf(name: string): [string, () => Promise<string>][] {
  const first = `${FOLDER}${name}/${name}.ts`;
  const own = Object.entries(SCRIPTS).filter(([path]) => path.startsWith(`${FOLDER}${name}/`));
  return own.sort(([a], [b]) => Number(b === first) - Number(a === first));
}

async function python(name: string): Promise<string> {
  const response = await fetch(`../source/${name}.py`);
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  return response.text();
}

async function show(
  files: HTMLElement,
  file: string,
  language: Language,
  load: () => Promise<string>,
): Promise<void> {
  const figure = make("figure");
  const caption = make("figcaption");
  const copy = make("button", "", "Copy");
  const pre = make("pre");
  const code = make("code", "", "Loading…");
  copy.setAttribute("aria-label", `Copy ${file}`);
  copy.type = "button";
  pre.tabIndex = 0;
  pre.setAttribute("role", "region");
  pre.setAttribute("aria-label", file);
  pre.append(code);
  caption.append(make("span", "", file), copy);
  figure.append(caption, pre);
  files.append(figure);
  try {
    const text = await load();
    code.replaceChildren(highlight(text, language));
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy"), 1_500);
    });
  } catch (error) {
    code.textContent = `This file could not be loaded: ${String(error)}`;
  }
}
