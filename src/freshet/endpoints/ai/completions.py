"""Runs as OpenAI's `POST /v1/chat/completions` has them: a stream of chunks, or one completion.

Source: `openai.types.chat` of the PyPI package `openai`, 3.57.
"""

from typing import Any

import msgspec

from freshet.dialects.event_stream import stream_event
from freshet.endpoints.ai.streams import Progress, RunStream
from freshet.errors import Refusal
from freshet.model.commands import Command
from freshet.model.frame import Frame
from freshet.model.run_aggregate import Aggregate, Part, input_text, tool_name

DONE = b"data: [DONE]\n\n"
FINISHED = {"tool-calls": "tool_calls", "content-filter": "content_filter", "length": "length"}


class Completion(RunStream):
    """One completion. streams: as chunks. usage: its last chunk says what it cost."""

    __slots__ = ("_aggregate", "_calls", "_created", "_error", "_finish", "_model", "_said", "_streams", "_usage")
    kind = "openai_chat"

    def __init__(self, first: Command, *, model: str, created: int, streams: bool, usage: bool) -> None:
        super().__init__("", first=first)
        self._model = model
        self._created = created
        self._streams = streams
        self._usage = usage
        self._aggregate = Aggregate()
        self._calls: dict[str, int] = {}  # tool calls, by their place
        self._said = False
        self._finish = "stop"
        self._error = ""

    def write(self, progress: Progress) -> bytes:
        data = b"".join([self._written(part) for part in progress.parts])
        if not self._streams:
            return self._whole() if self._over else b""
        if not self._over:
            return data
        if self._error:
            return data + stream_event(_error(self._error))
        data += self._chunk({}, self._finish)
        if self._usage:
            data += stream_event(msgspec.json.encode({**self._head(), "choices": [], "usage": self._cost()}))
        return data + DONE

    def cut(self, reason: str) -> Frame:
        return Frame(stream_event(_error(f"{reason}: try again")))

    def _written(self, part: Part) -> bytes:
        try:
            self._aggregate.apply(part)
        except Refusal:
            return b""
        match part["type"]:
            case "text-delta":
                return self._chunk({"content": part["delta"]})
            case "reasoning-delta":
                return self._chunk({"reasoning_content": part["delta"]})
            case "tool-input-start":
                return self._call(part, "")
            case "tool-input-delta":
                return self._more(part["toolCallId"], part["inputTextDelta"])
            case "tool-input-available" if part["toolCallId"] not in self._calls:
                return self._call(part, input_text(part["input"]))
            case "finish":
                self._finish = FINISHED.get(part.get("finishReason", ""), "stop")
            case "abort":
                self._error = f"the run was stopped: {part.get('reason') or 'by its user'}"
            case "error":
                self._error = part.get("errorText") or "the run failed"
        return b""

    def _call(self, part: Part, arguments: str) -> bytes:
        call = part["toolCallId"]
        index = self._calls[call] = len(self._calls)
        function = {"name": part["toolName"], "arguments": arguments}
        return self._chunk({"tool_calls": [{"index": index, "id": call, "type": "function", "function": function}]})

    def _more(self, call: str, arguments: str) -> bytes:
        return self._chunk({"tool_calls": [{"index": self._calls[call], "function": {"arguments": arguments}}]})

    def _head(self) -> dict[str, Any]:
        about = {"id": self.run, "object": "chat.completion.chunk", "created": self._created}
        return {**about, "model": self._model}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        if not self._said:
            self._said = True
            delta = {"role": "assistant", **delta}
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return stream_event(msgspec.json.encode({**self._head(), "choices": [choice]}))

    def _cost(self) -> dict[str, int]:
        used = self._aggregate.metadata.get("usage", {})
        asked, answered = int(used.get("input_tokens", 0)), int(used.get("output_tokens", 0))
        return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}

    def _whole(self) -> bytes:
        if self._error:
            return _error(self._error)
        calls = [_tool(part) for part in self._aggregate.parts if "toolCallId" in part]
        message = {"role": "assistant", "content": self._aggregate.text, **({"tool_calls": calls} if calls else {})}
        choice = {"index": 0, "message": message, "finish_reason": self._finish}
        head = {**self._head(), "object": "chat.completion"}
        return msgspec.json.encode({**head, "choices": [choice], "usage": self._cost()})

    @property
    def failed(self) -> bool:
        return bool(self._error)


def _tool(part: Part) -> dict[str, Any]:
    given = part.get("input", part.get("inputText", ""))
    function = {"name": tool_name(part), "arguments": input_text(given)}
    return {"id": part["toolCallId"], "type": "function", "function": function}


def _error(message: str) -> bytes:
    return msgspec.json.encode({"error": {"message": message, "type": "run_error", "code": None, "param": None}})
