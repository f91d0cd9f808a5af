"""What the parts of a run add up to: a message; and the parts that would give that message again.

Parts are those of the AI SDK's UI message stream, JSON objects with a `type`. A message has, in order, texts,
reasoning, tools with their input and output, sources, files and data, as the same SDK keeps them. Pure: no I/O.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from freshet.errors import Refusal

Part: TypeAlias = dict[str, Any]
"""One JSON object of a stream, or of a message."""

KEPT = ("source-url", "source-document", "file", "reasoning-file", "custom", "steering-message")
DELTAS = {
    "text-delta": ("id", "delta"),
    "reasoning-delta": ("id", "delta"),
    "tool-input-delta": ("toolCallId", "inputTextDelta"),
}
TOOL_FIELDS = ("toolCallId", "title", "providerExecuted", "providerMetadata", "callProviderMetadata")
ANSWERED = ("approved", "reason", "user", "run")


class Aggregate:
    """A message that grows. parts: its parts; texts and reasoning have their `id` beside what the SDK keeps.

    What happened to a tool's call when other parts had come behind it stands in its `order`, so that a replay has all
    in the order in which it came: by stage, how many parts there were, and how many such stages before. Only what was
    written to two parts that were open at a time is replayed one part after the other.
    """

    __slots__ = ("_by_id", "_late", "metadata", "parts")

    def __init__(self, parts: list[Part] | None = None, metadata: Mapping[str, Any] | None = None) -> None:
        self.parts: list[Part] = parts if parts is not None else []
        self.metadata: dict[str, Any] = dict(metadata or {})
        self._by_id: dict[tuple[str, str], Part] = {}
        self._late = (0, -1)  # the last in any `order`
        self._index()

    def _index(self) -> None:
        self._by_id = {key: part for part in self.parts if (key := _key(part)) is not None}
        late = [(count, turn) for part in self.parts for count, turn in part.get("order", {}).values()]
        self._late = max(late, key=lambda each: each[1], default=(0, -1))

    def apply(self, part: Part) -> None:
        """Add one part of the stream. Raises `Refusal` 107 for one that the stream cannot have there."""
        kind = part.get("type")
        apply = _APPLY.get(kind) if isinstance(kind, str) else None
        if apply is not None:
            try:
                apply(self, part)
            except KeyError as missing:
                raise Refusal.bad_request(f"{kind}: there is no {missing}") from None
        elif isinstance(kind, str) and kind.startswith("data-"):
            self._data(part)
        else:
            raise Refusal.bad_request(
                f"no part of a run is {kind!r:.60}; there are {', '.join(sorted(_APPLY))}, data-*"
            )

    def tool(self, call: str) -> Part:
        """A tool call's part. Raises KeyError."""
        return self._by_id["tool", call]

    def closing(self, why: str) -> list[Part]:
        """The parts that end what is open. why: for a tool whose input did not come to its end."""
        return [end for part in self.parts if (end := _end_of(part, why)) is not None]

    def replay(self) -> list[Part]:
        """The parts of a stream that add up to this message: one delta for each text."""
        parts: list[Part] = [{"type": "message-metadata", "messageMetadata": self.metadata}] if self.metadata else []
        late: list[tuple[int, int, Part]] = []
        for count, part in enumerate(self.parts, 1):
            order = part.get("order", {})
            for each in _replay_of(part):
                if (when := order.get(_STAGES.get(each["type"], ""))) is not None:
                    late.append((*when, each))
                else:
                    parts.append(each)
            if late:
                due = [each for each in late if each[0] <= count or count == len(self.parts)]
                late = [each for each in late if each not in due]
                parts += [each for _, _, each in sorted(due, key=lambda each: each[1])]
        return parts

    @property
    def text(self) -> str:
        """All texts of the message, joined."""
        return "".join(part["text"] for part in self.parts if part["type"] == "text")

    # ------------------------------------------------------------------------------------------------ parts of a stream

    def _add(self, part: Part) -> None:
        self.parts.append(part)
        if (key := _key(part)) is not None:
            self._by_id[key] = part

    def _note(self, tool: Part, stage: str) -> None:
        """Something happens to a tool's call."""
        count, turn = self._late
        if self.parts[-1] is not tool or count == len(self.parts):
            self._late = len(self.parts), turn + 1
            tool.setdefault("order", {})[stage] = list(self._late)

    def _begin_text(self, part: Part) -> None:
        kind = part["type"].removesuffix("-start")
        if (kind, part["id"]) in self._by_id and self._by_id[kind, part["id"]]["state"] == "streaming":
            raise Refusal.bad_request(f"{kind} {part['id']!r} has begun already")
        self._add({"type": kind, "id": part["id"], "text": "", "state": "streaming", **_metadata(part)})

    def _grow_text(self, part: Part) -> None:
        text = self._by_id[part["type"].removesuffix("-delta"), part["id"]]
        if text["state"] != "streaming":
            raise Refusal.bad_request(f"{text['type']} {part['id']!r} has ended")
        text["text"] += part["delta"]

    def _end_text(self, part: Part) -> None:
        self._by_id[part["type"].removesuffix("-end"), part["id"]].update(state="done", **_metadata(part))

    def _begin_tool(self, part: Part) -> None:
        call = part["toolCallId"]
        if ("tool", call) in self._by_id:
            raise Refusal.bad_request(f"tool call {call!r} has begun already")
        named: Part = {"toolName": part["toolName"]} if part.get("dynamic") else {}
        fields: Part = {name: part[name] for name in TOOL_FIELDS if name in part}
        kind = "dynamic-tool" if named else f"tool-{part['toolName']}"
        self._add({"type": kind, **named, **fields, "state": "input-streaming", "inputText": ""})

    def _grow_tool(self, part: Part) -> None:
        self._by_id["tool", part["toolCallId"]]["inputText"] += part["inputTextDelta"]

    def _have_input(self, part: Part) -> None:
        streamed = ("tool", part["toolCallId"]) in self._by_id
        if not streamed:
            self._begin_tool(part)
        tool = self.tool(part["toolCallId"])
        self._note(tool, "input")
        if not streamed or tool.get("inputText") == input_text(part.get("input")):
            tool.pop("inputText", None)  # a replay has the same without it
        if part["type"] == "tool-input-error":
            tool.update(state="output-error", input=part.get("input"), errorText=part.get("errorText", ""))
        else:
            tool.update(state="input-available", input=part["input"])

    def _ask(self, part: Part) -> None:
        more: Part = {name: part[name] for name in ("reason", "isAutomatic", "signature") if name in part}
        tool = self.tool(part["toolCallId"])
        self._note(tool, "request")
        tool.update(state="approval-requested", approval={"id": part["approvalId"], **more})

    def _answer(self, part: Part) -> None:
        for tool in self.parts:
            approval = tool.get("approval")
            if approval is not None and approval["id"] == part["approvalId"]:
                answer = {name: part[name] for name in ANSWERED if name in part}
                self._note(tool, "response")
                tool.update(state="approval-responded", approval={**approval, **answer})
                return
        raise KeyError(part["approvalId"])

    def _have_output(self, part: Part) -> None:
        tool = self.tool(part["toolCallId"])
        what = part["type"].removeprefix("tool-")
        self._note(tool, "output")
        tool.pop("preliminary", None)
        tool.update(state=what, **{name: part[name] for name in ("output", "errorText", "preliminary") if name in part})

    def _data(self, part: Part) -> None:
        if part.get("transient"):
            return
        known = self._by_id.get((part["type"], part.get("id", "")))
        if known is not None and "id" in part:
            known["data"] = part["data"]
        else:
            self._add(dict(part))

    def _keep(self, part: Part) -> None:
        self._add(dict(part))

    def _merge(self, part: Part) -> None:
        self.metadata = merged(self.metadata, part.get("messageMetadata") or {})

    def _begin_step(self, part: Part) -> None:
        self._add({"type": "step-start"})

    def _reset_step(self, part: Part) -> None:
        steps = [at for at, each in enumerate(self.parts) if each["type"] == "step-start"]
        del self.parts[(steps[-1] + 1) if steps else 0 :]
        self._index()

    def _nothing(self, part: Part) -> None:
        """It says something about the stream alone."""


_APPLY: dict[str, Callable[[Aggregate, Part], None]] = {
    "start": Aggregate._merge,
    "text-start": Aggregate._begin_text,
    "text-delta": Aggregate._grow_text,
    "text-end": Aggregate._end_text,
    "reasoning-start": Aggregate._begin_text,
    "reasoning-delta": Aggregate._grow_text,
    "reasoning-end": Aggregate._end_text,
    "tool-input-start": Aggregate._begin_tool,
    "tool-input-delta": Aggregate._grow_tool,
    "tool-input-available": Aggregate._have_input,
    "tool-input-error": Aggregate._have_input,
    "tool-approval-request": Aggregate._ask,
    "tool-approval-response": Aggregate._answer,
    "tool-output-available": Aggregate._have_output,
    "tool-output-error": Aggregate._have_output,
    "tool-output-denied": Aggregate._have_output,
    **dict.fromkeys(KEPT, Aggregate._keep),
    "start-step": Aggregate._begin_step,
    "finish-step": Aggregate._nothing,
    "reset-step": Aggregate._reset_step,
    "message-metadata": Aggregate._merge,
    "finish": Aggregate._merge,
    "abort": Aggregate._nothing,
    "error": Aggregate._nothing,
}


_STAGES = {
    "tool-input-available": "input",
    "tool-input-error": "input",
    "tool-approval-request": "request",
    "tool-approval-response": "response",
    "tool-output-available": "output",
    "tool-output-error": "output",
    "tool-output-denied": "output",
}


def input_text(given: Any) -> str:
    """A tool's input as the text that it is where none was streamed."""
    return given if isinstance(given, str) else msgspec.json.encode(given).decode()


def _key(part: Part) -> tuple[str, str] | None:
    if "toolCallId" in part:
        return "tool", part["toolCallId"]
    return (part["type"], part["id"]) if "id" in part else None


def _metadata(part: Part) -> Part:
    return {"providerMetadata": part["providerMetadata"]} if "providerMetadata" in part else {}


def _end_of(part: Part, why: str) -> Part | None:
    state = part.get("state")
    if state == "streaming":
        return {"type": f"{part['type']}-end", "id": part["id"]}
    if state == "input-streaming":
        name = {"toolCallId": part["toolCallId"], "toolName": tool_name(part)}
        return {"type": "tool-input-error", **name, **_dynamic(part), "input": part["inputText"], "errorText": why}
    return None


def tool_name(part: Part) -> str:
    """Of the tool that a part of a message is about."""
    return str(part.get("toolName") or part["type"].removeprefix("tool-"))


def _dynamic(part: Part) -> Part:
    return {"dynamic": True} if part["type"] == "dynamic-tool" else {}


def _replay_of(part: Part) -> list[Part]:
    kind = part["type"]
    if kind in ("text", "reasoning"):
        id = part["id"]
        parts: list[Part] = [{"type": f"{kind}-start", "id": id, **_metadata(part)}]
        if part["text"]:
            parts.append({"type": f"{kind}-delta", "id": id, "delta": part["text"]})
        return [*parts, {"type": f"{kind}-end", "id": id}] if part["state"] == "done" else parts
    if "toolCallId" in part:
        return list(_replay_of_tool(part))
    return [{"type": "start-step"}] if kind == "step-start" else [part]


def _replay_of_tool(part: Part) -> Iterable[Part]:
    call, state = {"toolCallId": part["toolCallId"]}, part["state"]
    about = {**call, "toolName": tool_name(part), **_dynamic(part)}
    about |= {name: part[name] for name in TOOL_FIELDS if name in part}
    if "inputText" in part:
        yield {"type": "tool-input-start", **about}
        if part["inputText"]:
            yield {"type": "tool-input-delta", **call, "inputTextDelta": part["inputText"]}
    if state == "input-streaming":
        return
    if state == "output-error" and "output" not in part and "approval" not in part and isinstance(part["input"], str):
        yield {"type": "tool-input-error", **about, "input": part["input"], "errorText": part["errorText"]}
        return
    yield {"type": "tool-input-available", **about, "input": part["input"]}
    if (approval := part.get("approval")) is not None:
        asked = {name: approval[name] for name in ("isAutomatic", "signature") if name in approval}
        if "approved" not in approval and "reason" in approval:
            asked["reason"] = approval["reason"]  # it gives way to that of the answer
        yield {"type": "tool-approval-request", "approvalId": approval["id"], **call, **asked}
        if "approved" in approval:
            said = {name: approval[name] for name in ANSWERED if name in approval}
            yield {"type": "tool-approval-response", "approvalId": approval["id"], **said}
    if state.startswith("output-"):
        more: Part = {name: part[name] for name in ("output", "errorText", "preliminary") if name in part}
        yield {"type": f"tool-{state}", **call, **more}


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with the values of `new`, objects within them merged too."""
    both = dict(old)
    for name, value in new.items():
        before = both.get(name)
        both[name] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return both


def coalesced(parts: Iterable[Part]) -> list[Part]:
    """The same parts, neighbouring deltas of one text or one tool's input joined."""
    joined: list[Part] = []
    for part in parts:
        names = DELTAS.get(part["type"])
        last = joined[-1] if joined else None
        if names and last is not None and last["type"] == part["type"] and last[names[0]] == part[names[0]]:
            joined[-1] = {**last, names[1]: last[names[1]] + part[names[1]]}
        else:
            joined.append(part)
    return joined
