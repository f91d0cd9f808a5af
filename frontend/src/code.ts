// How a demo is made: first the few lines that matter, which the page comes with; its files, when they are asked for.

import { highlight, type Language } from "./highlight";
import { element, make } from "./page";

const SCRIPTS = import.meta.glob<string>("../pages/*/*.ts", { query: "?raw", import: "default" });

/** The page has parts/demo.html, which says whose code it is. */
export function codePanel(): void {
  const name = element("code").dataset.name ?? "";
  const tabs = [...document.querySelectorAll<HTMLButtonElement>("#code [role=tab]")];
  const code = document.querySelector("#shown code") as HTMLElement;
  const copy = element("copy-code");
  const texts = new Map<string, Promise<string>>([["", Promise.resolve(code.textContent ?? "")]]);
  let chosen = "";

  async function show(file: string): Promise<void> {
    if (!texts.has(file)) texts.set(file, load(name, file));
    const text = await texts.get(file)?.catch((error) => {
      texts.delete(file);
      return `This file could not be loaded: ${String(error)}`;
    });
    if (file !== chosen || text === undefined) return;
    code.replaceChildren(...lines(highlight(text, language(file || ".py"))));
    code.parentElement?.scrollTo(0, 0);
  }

  function choose(tab: HTMLButtonElement): void {
    for (const each of tabs) {
      each.setAttribute("aria-selected", String(each === tab));
      each.tabIndex = each === tab ? 0 : -1;
    }
    element("shown").setAttribute("aria-labelledby", tab.id);
    chosen = tab.dataset.file ?? "";
    void show(chosen);
  }

  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", ({ key }) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[key];
      const next = way && tabs.at((index + way) % tabs.length);
      if (!next) return;
      choose(next);
      next.focus();
    });
  });
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText((await texts.get(chosen)) ?? "");
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1_500);
  });
  void show("");
}

/** Each line as an element of its own, which knows how far in it begins. */
function lines(highlighted: DocumentFragment): HTMLElement[] {
  const made = [make("span", "line")];
  for (const node of highlighted.childNodes) {
    for (const text of (node.textContent ?? "").split(/(?<=\n)/)) {
      if (made.at(-1)?.textContent?.endsWith("\n")) made.push(make("span", "line"));
      const piece = node.cloneNode(false);
      piece.textContent = text;
      made.at(-1)?.append(piece);
    }
  }
  for (const line of made) line.style.setProperty("--indent", `${/^ */.exec(line.textContent ?? "")?.[0].length ?? 0}ch`);
  return made;
}

const language = (file: string): Language => (file.endsWith(".py") ? "python" : "typescript");

async function load(name: string, file: string): Promise<string> {
  const script = SCRIPTS[`../pages/${name}/${file}`];
  if (script) return script();
  const response = await fetch(`../source/demos/${file}`);
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  return response.text();
}
