"""Parts of the AI SDK's UI message stream, in the order that it asks for: what is open ends before the next begins."""

from collections.abc import Iterator
from itertools import count
from typing import Any, Literal

import msgspec

Part = dict[str, Any]
Kind = Literal["text", "reasoning"]


class Building:
    """Of one answer."""

    def __init__(self) -> None:
        self._ids = count(1)
        self._open: tuple[Kind, str] | None = None
        self._inputs: dict[str, tuple[str, list[str]]] = {}  # of tool calls that stream in: names and arguments

    def add(self, kind: Kind, text: str) -> Iterator[Part]:
        """More text, or more of what the model thinks."""
        if not text:
            return
        if self._open is None or self._open[0] != kind:
            yield from self.end()
            self._open = kind, f"{kind}-{next(self._ids)}"
            yield {"type": f"{kind}-start", "id": self._open[1]}
        yield {"type": f"{kind}-delta", "id": self._open[1], "delta": text}

    def end(self) -> Iterator[Part]:
        """Nothing more of the text that is open."""
        if self._open is not None:
            (kind, id), self._open = self._open, None
            yield {"type": f"{kind}-end", "id": id}

    def call(self, id: str, name: str) -> Iterator[Part]:
        """A tool is called, its arguments stream in."""
        yield from self.end()
        self._inputs[id] = name, []
        yield {"type": "tool-input-start", "toolCallId": id, "toolName": name}

    def arguments(self, id: str, json: str) -> Iterator[Part]:
        if json and id in self._inputs:
            self._inputs[id][1].append(json)
            yield {"type": "tool-input-delta", "toolCallId": id, "inputTextDelta": json}

    def called(self, id: str) -> Iterator[Part]:
        """The arguments are complete."""
        if id not in self._inputs:
            return
        name, pieces = self._inputs.pop(id)
        about = {"toolCallId": id, "toolName": name}
        text = "".join(pieces)
        try:
            yield {"type": "tool-input-available", **about, "input": msgspec.json.decode(text or "{}")}
        except msgspec.DecodeError as why:
            yield {
                "type": "tool-input-error",
                **about,
                "input": text,
                "errorText": f"the arguments are not JSON: {why}",
            }

    def all_called(self) -> Iterator[Part]:
        for id in list(self._inputs):
            yield from self.called(id)

    def output(self, id: str, output: Any) -> Iterator[Part]:
        yield from self.end()
        yield {"type": "tool-output-available", "toolCallId": id, "output": plain(output)}

    def failed(self, id: str, why: str) -> Iterator[Part]:
        yield from self.end()
        yield {"type": "tool-output-error", "toolCallId": id, "errorText": why}


def usage(**tokens: int | None) -> Part:
    """What it cost, as part of the message's metadata."""
    counted = {name: number for name, number in tokens.items() if number is not None}
    return {"type": "message-metadata", "messageMetadata": {"usage": counted}}


def plain(value: Any) -> Any:
    """As JSON has it; what JSON cannot have becomes its text."""
    dump = getattr(value, "model_dump", None)
    try:
        return msgspec.to_builtins(dump(mode="json") if dump is not None else value)
    except TypeError:
        return str(value)
