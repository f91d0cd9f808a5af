// How a talk looks: a question and its answer for each run. An element stays as long as its run is shown.

import { make } from "../../src/page";
import { Markdown } from "./markdown";
import { ENDED, type Part, type Run, type Talk } from "./talk";

const NEAR = 80; // pixels from the end within which the page follows what is written

interface Does {
  edit(run: Run, text: string): void;
  choose(run: Run): void;
  decide(approval: string, approved: boolean): void;
  resume(run: Run): void;
}

export class View {
  private readonly shown = new Map<string, Exchange>();

  constructor(
    private readonly target: HTMLElement,
    private readonly talk: Talk,
    private readonly does: Does,
  ) {}

  /** Show the branch; only what changed is touched. follow: go to its end, wherever the visitor was. */
  show(follow = false): void {
    const { target } = this;
    const near = follow || target.scrollHeight - target.scrollTop - target.clientHeight < NEAR;
    const path = this.talk.path;
    for (const [id, exchange] of this.shown) {
      if (!path.some((run) => run.id === id)) {
        exchange.element.remove();
        this.shown.delete(id);
      }
    }
    for (const run of path) {
      let exchange = this.shown.get(run.id);
      if (!exchange) {
        exchange = new Exchange(run, this.does);
        this.shown.set(run.id, exchange);
        target.append(exchange.element);
      }
      exchange.update(run, this.talk.beside(run));
    }
    if (near) target.scrollTop = target.scrollHeight;
  }
}

class Exchange {
  readonly element = make("article", "exchange");
  private readonly body = make("div", "answer");
  private readonly fate = make("p", "fate");
  private readonly again = make("button", "again", "Go on");
  private readonly branches = make("span", "branches");
  private readonly parts: { part: HTMLElement; update: (part: Part, run: Run) => void }[] = [];

  constructor(
    private run: Run,
    private readonly does: Does,
  ) {
    const asked = make("div", "asked");
    const bubble = make("p", "bubble", run.question);
    const edit = make("button", "small", "Edit");
    edit.type = "button";
    edit.addEventListener("click", () => this.edit(asked, bubble));
    const under = make("div", "under");
    under.append(this.branches, edit);
    asked.append(bubble, under);
    this.again.type = "button";
    this.again.addEventListener("click", () => this.does.resume(this.run));
    this.element.append(asked, this.body, this.fate, this.again);
  }

  private edit(asked: HTMLElement, bubble: HTMLElement): void {
    if (asked.querySelector("form")) return;
    const form = make("form", "editing");
    const text = make("textarea");
    text.value = this.run.question;
    text.setAttribute("aria-label", "Your question");
    const [send, cancel] = [make("button", "primary", "Ask again"), make("button", "", "Cancel")];
    cancel.type = "button";
    const row = make("span");
    row.append(cancel, send);
    form.append(text, row);
    const end = (): void => {
      form.remove();
      bubble.hidden = false;
    };
    cancel.addEventListener("click", end);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (text.value.trim()) this.does.edit(this.run, text.value);
      end();
    });
    bubble.hidden = true;
    asked.prepend(form);
    text.focus();
  }

  update(run: Run, beside: Run[]): void {
    this.run = run;
    run.parts.forEach((part, index) => {
      let shown = this.parts[index];
      if (!shown) {
        shown = made(part, this.does);
        this.parts.push(shown);
        this.body.append(shown.part);
      }
      shown.update(part, run);
    });
    const busy = !ENDED.has(run.state) && run.state !== "waiting";
    this.body.classList.toggle("writing", busy);
    this.element.setAttribute("aria-busy", String(busy));
    const why = run.reason && run.reason !== "user" ? `: ${run.reason}` : "";
    this.fate.textContent =
      run.state === "stopped"
        ? `Stopped${why}. What was written is kept.`
        : run.state === "failed"
          ? `Failed${why}.${run.resumable ? " What was written is kept, and it can go on." : ""}`
          : "";
    this.again.hidden = !run.resumable;
    this.fate.dataset.state = run.state;
    this.showBranches(beside);
  }

  private showBranches(beside: Run[]): void {
    const at = beside.findIndex(({ id }) => id === this.run.id);
    const key = `${at}/${beside.length}`;
    if (this.branches.dataset.key === key) return;
    this.branches.dataset.key = key;
    this.branches.replaceChildren();
    if (beside.length < 2) return;
    for (const [label, text, to] of [["Earlier version", "‹", at - 1], ["Later version", "›", at + 1]] as const) {
      const button = make("button", "small", text);
      button.type = "button";
      button.setAttribute("aria-label", label);
      const run = beside[to];
      button.disabled = !run;
      if (run) button.addEventListener("click", () => this.does.choose(run));
      if (to > at) this.branches.append(make("span", "", `${at + 1} of ${beside.length}`));
      this.branches.append(button);
    }
  }
}

function made(part: Part, does: Does): { part: HTMLElement; update: (part: Part, run: Run) => void } {
  if (part.type === "text") {
    const target = make("div", "markdown");
    const markdown = new Markdown(target);
    return { part: target, update: ({ text = "" }) => markdown.set(text) };
  }
  if (part.type === "reasoning") {
    const details = make("details", "reasoning");
    const [summary, text] = [make("summary", "", "Reasoning"), make("p")];
    details.append(summary, text);
    return { part: details, update: ({ text: thought = "" }) => (text.textContent = thought) };
  }
  if (part.toolCallId) return tool(part, does);
  return { part: make("span"), update: () => undefined };
}

function tool(first: Part, does: Does): { part: HTMLElement; update: (part: Part, run: Run) => void } {
  const card = make("div", "tool");
  const [name, input, outcome, buttons] = [make("strong"), make("pre"), make("p", "outcome"), make("div", "decide")];
  name.textContent = first.toolName ?? first.type.replace(/^tool-/, "");
  input.tabIndex = 0;
  const [yes, no] = [make("button", "primary", "Approve"), make("button", "", "Decline")];
  for (const [button, approved] of [[yes, true], [no, false]] as const) {
    button.type = "button";
    button.addEventListener("click", () => does.decide(card.dataset.approval ?? "", approved));
  }
  buttons.append(yes, no);
  card.append(name, input, outcome, buttons);
  const update = (part: Part, run: Run): void => {
    card.dataset.approval = part.approval?.id ?? "";
    const json = JSON.stringify(part.input ?? {}, null, 1);
    if (input.textContent !== json) input.textContent = json;
    const waits = run.state === "waiting" && part.approval !== undefined && part.approval.approved === undefined;
    buttons.hidden = !waits;
    outcome.textContent = waits
      ? "Waits for you, as long as it takes."
      : part.output !== undefined
        ? `Done: ${JSON.stringify(part.output)}`
        : part.state === "output-denied" || part.approval?.approved === false
          ? "Declined."
          : "";
  };
  return { part: card, update };
}
