// A talk: all runs of it, and the branch that is shown. What a summary and the events behind it add up to.

export interface Part {
  type: string;
  id?: string;
  text?: string;
  delta?: string;
  toolCallId?: string;
  toolName?: string;
  input?: unknown;
  output?: unknown;
  state?: string;
  approvalId?: string;
  approval?: { id: string; approved?: boolean };
  reason?: string;
}

export interface Run {
  id: string;
  question: string;
  /** The run whose answer this one follows; empty: none. */
  parent: string;
  parts: Part[];
  state: string;
  reason: string;
  /** It failed, and may go on. */
  resumable: boolean;
}

interface Message {
  id: string;
  role: string;
  parent?: string;
  parts: Part[];
  metadata?: { run?: { state: string; reason?: string; resumable?: boolean } };
}

export interface RunEvent {
  run: string;
  seq: number;
  parts: Part[];
  state?: string;
  input?: { text: string };
  parent?: string;
  reason?: string;
  resumable?: boolean;
}

export interface Summary {
  messages: Message[];
}

export const ENDED = new Set(["finished", "stopped", "failed"]);

export class Talk {
  runs = new Map<string, Run>();
  /** The run that the branch which is shown ends with. */
  leaf = "";

  begin({ messages }: Summary): void {
    this.runs.clear();
    for (let at = 0; at + 1 < messages.length; at += 2) {
      const [asked, answered] = [messages[at] as Message, messages[at + 1] as Message];
      const { state = "finished", reason = "", resumable = false } = answered.metadata?.run ?? {};
      const question = asked.parts.map((part) => part.text ?? (part as { data?: Ask }).data?.text ?? "").join("");
      this.add({ id: answered.id, question, parent: asked.parent ?? "", parts: answered.parts, state, reason, resumable });
    }
    if (!this.runs.has(this.leaf)) this.leaf = [...this.runs.keys()].at(-1) ?? "";
  }

  /** The run that changed. */
  take(event: RunEvent): Run | undefined {
    if (event.seq === 0) {
      const { run: id, input, parent = "" } = event;
      this.add({ id, question: input?.text ?? "", parent, parts: [], state: "queued", reason: "", resumable: false });
      this.leaf = id;
    }
    const run = this.runs.get(event.run);
    if (!run) return undefined;
    for (const part of event.parts) apply(run.parts, part);
    if (event.state) [run.state, run.reason, run.resumable] = [event.state, event.reason ?? "", event.resumable ?? false];
    return run;
  }

  private add(run: Run): void {
    this.runs.set(run.id, { ...run, parent: run.parent === "-" ? "" : run.parent });
  }

  get path(): Run[] {
    const path: Run[] = [];
    for (let run = this.runs.get(this.leaf); run; run = this.runs.get(run.parent)) path.unshift(run);
    return path;
  }

  get running(): Run | undefined {
    return [...this.runs.values()].find((run) => !ENDED.has(run.state) && run.state !== "waiting");
  }

  /** All that were asked at the same point. */
  beside(run: Run): Run[] {
    return [...this.runs.values()].filter(({ parent }) => parent === run.parent);
  }

  /** Show the branch of this run, to its newest end. */
  choose(run: Run): void {
    let end = run;
    for (const each of this.runs.values()) if (each.parent === end.id) end = each;
    this.leaf = end.id;
  }
}

interface Ask {
  text: string;
}

function apply(parts: Part[], part: Part): void {
  const [kind, step] = [part.type.split("-")[0] ?? "", part.type.split("-").slice(1).join("-")];
  if ((kind === "text" || kind === "reasoning") && step === "start") {
    parts.push({ type: kind, id: part.id ?? "", text: "" });
  } else if (kind === "text" || kind === "reasoning") {
    const open = parts.filter((each) => each.type === kind && each.id === part.id).at(-1);
    if (open && step === "delta") open.text = (open.text ?? "") + (part.delta ?? "");
  } else if (kind === "tool") {
    let call = parts.find(({ toolCallId }) => toolCallId === part.toolCallId);
    if (!call) parts.push((call = { type: `tool-${part.toolName}`, toolCallId: part.toolCallId ?? "" }));
    if (part.input !== undefined) call.input = part.input;
    if (part.output !== undefined) call.output = part.output;
    if (part.approvalId && step === "approval-request") call.approval = { id: part.approvalId };
    if (step === "approval-response") call.approval = { id: part.approvalId ?? "", ...(part as { approved?: boolean }) };
    if (step === "output-denied") call.state = "output-denied";
  }
}
