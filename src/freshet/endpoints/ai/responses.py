"""Runs as OpenAI's Responses: typed events with sequence numbers, from any of which a stream may be resumed.

A sequence number is how far a stream has come: an event counts 1, a delta as many as it has characters. So it is the
same however deltas were joined on the way, and a delta that was had in part is resumed within.

Source: `openai.types.responses` of the PyPI package `openai`, 3.57.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from freshet.dialects.event_stream import stream_event
from freshet.endpoints.ai.streams import Progress, RunStream
from freshet.model.commands import Command
from freshet.model.frame import Frame
from freshet.model.run_aggregate import Part, input_text

Item = dict[str, Any]


class ResponseStream(RunStream):
    """One response. after: the sequence number behind which the stream begins; -1: with all. streams: as events."""

    __slots__ = ("_after", "_at", "_created", "_items", "_model", "_open", "_streams", "response")
    kind = "openai_responses"

    def __init__(
        self,
        channel: str,
        run: str,
        first: Command | None = None,
        *,
        model: str = "",
        created: int = 0,
        after: int = -1,
        streams: bool,
    ) -> None:
        super().__init__(channel, run, first=first)
        self._after = after
        self._streams = streams
        self._at = -1
        self._open: dict[str, tuple[int, Item]] = {}  # by the part's id: the item's place, and it
        self._items: list[Item] = []
        about = {"id": run, "object": "response", "created_at": created, "model": model, "status": "in_progress"}
        shape: Item = {"error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "tools": []}
        more: Item = {"parallel_tool_calls": True, "temperature": None, "tool_choice": "auto", "top_p": None}
        self.response: Item = {**about, **shape, **more, "output": self._items, "usage": None}

    def choose(self, channel: str, run: str) -> None:
        super().choose(channel, run)
        self.response["id"] = run

    def write(self, progress: Progress) -> bytes:
        data = b"".join([self._written(part) for part in progress.parts])
        if self._streams:
            return data
        return msgspec.json.encode(self.response) if self._over or not self._waits else b""

    def cut(self, reason: str) -> Frame:
        return Frame(self._event("error", {"code": "cut", "message": f"{reason}: try again", "param": None}))

    def _event(self, kind: str, fields: Item) -> bytes:
        self._at += 1
        if self._at <= self._after:
            return b""
        body = {"type": kind, "sequence_number": self._at, **fields}
        return stream_event(msgspec.json.encode(body), name=kind)

    def _delta(self, kind: str, fields: Item, text: str) -> bytes:
        before, self._at = self._at, self._at + len(text)
        if self._at <= self._after or not text:
            return b""
        had = max(0, self._after - before)
        body = {"type": kind, "sequence_number": self._at, **fields, "delta": text[had:]}
        return stream_event(msgspec.json.encode(body), name=kind)

    # ----------------------------------------------------------------------------------------------- parts of the run

    def _written(self, part: Part) -> bytes:
        write = _WRITE.get(part["type"])
        return write(self, part) if write is not None else b""

    def _began(self, part: Part) -> bytes:
        return self._about("response.created") + self._about("response.in_progress")

    def _about(self, kind: str) -> bytes:
        return self._event(kind, {"response": self.response})

    def _add(self, id: str, item: Item) -> bytes:
        place = len(self._items)
        self._items.append(item)
        self._open[id] = place, item
        return self._event("response.output_item.added", {"output_index": place, "item": item})

    def _begin_text(self, part: Part) -> bytes:
        id = f"msg_{part['id']}"
        if part["type"] == "reasoning-start":
            content: Item = {"type": "reasoning_text", "text": ""}
            item: Item = {"type": "reasoning", "id": id, "summary": [], "content": [], "status": "in_progress"}
        else:
            content = {"type": "output_text", "text": "", "annotations": []}
            item = {"type": "message", "id": id, "role": "assistant", "content": [], "status": "in_progress"}
        data = self._add(_key(part), item)
        data += self._event("response.content_part.added", {**self._place(_key(part)), "part": content})
        item["content"].append(content)
        return data

    def _place(self, id: str) -> Item:
        place, item = self._open[id]
        return {"output_index": place, "item_id": item["id"], "content_index": 0}

    def _grow_text(self, part: Part) -> bytes:
        _, item = self._open[_key(part)]
        item["content"][0]["text"] += part["delta"]
        return self._delta(f"response.{item['content'][0]['type']}.delta", self._place(_key(part)), part["delta"])

    def _end_text(self, part: Part) -> bytes:
        place, item = self._open[_key(part)]
        content = item["content"][0]
        about = self._place(_key(part))
        data = self._event(f"response.{content['type']}.done", {**about, "text": content["text"]})
        data += self._event("response.content_part.done", {**about, "part": content})
        return data + self._end_item(_key(part), place, item)

    def _end_item(self, id: str, place: int, item: Item) -> bytes:
        del self._open[id]
        item["status"] = "completed"
        return self._event("response.output_item.done", {"output_index": place, "item": item})

    def _begin_call(self, part: Part) -> bytes:
        call = part["toolCallId"]
        item = {"type": "function_call", "id": f"fc_{call}", "call_id": call, "name": part["toolName"], "arguments": ""}
        return self._add(call, {**item, "status": "in_progress"})

    def _more(self, part: Part) -> bytes:
        return self._grow_call(part["toolCallId"], part["inputTextDelta"])

    def _grow_call(self, call: str, arguments: str) -> bytes:
        place, item = self._open[call]
        item["arguments"] += arguments
        about = {"output_index": place, "item_id": item["id"]}
        return self._delta("response.function_call_arguments.delta", about, arguments)

    def _end_call(self, part: Part) -> bytes:
        call, data = part["toolCallId"], b""
        if call not in self._open:
            data = self._begin_call(part)
        place, item = self._open[call]
        if not item["arguments"]:
            data += self._grow_call(call, input_text(part.get("input")))
        about = {"output_index": place, "item_id": item["id"], "name": item["name"], "arguments": item["arguments"]}
        data += self._event("response.function_call_arguments.done", about)
        return data + self._end_item(call, place, item)

    def _cost(self, part: Part) -> bytes:
        used = (part.get("messageMetadata") or {}).get("usage")
        if isinstance(used, dict):
            asked, answered = int(used.get("input_tokens", 0)), int(used.get("output_tokens", 0))
            details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
            total = {"input_tokens": asked, "output_tokens": answered, "total_tokens": asked + answered}
            self.response["usage"] = {**total, **details}
        return b""

    def _ended(self, part: Part) -> bytes:
        kind, response = part["type"], self.response
        if kind == "finish" and part.get("finishReason") == "length":
            response |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
            return self._about("response.incomplete")
        if kind == "finish":
            response["status"] = "completed"
            return self._about("response.completed")
        if kind == "abort":
            response |= {"status": "cancelled", "incomplete_details": {"reason": part.get("reason") or "cancelled"}}
            return self._about("response.incomplete")
        if kind == "error":
            response |= {"status": "failed", "error": {"code": "server_error", "message": part.get("errorText", "")}}
            return self._about("response.failed")
        return b""


_WRITE: dict[str, Callable[[ResponseStream, Part], bytes]] = {
    "start": ResponseStream._began,
    "text-start": ResponseStream._begin_text,
    "text-delta": ResponseStream._grow_text,
    "text-end": ResponseStream._end_text,
    "reasoning-start": ResponseStream._begin_text,
    "reasoning-delta": ResponseStream._grow_text,
    "reasoning-end": ResponseStream._end_text,
    "tool-input-start": ResponseStream._begin_call,
    "tool-input-delta": ResponseStream._more,
    "tool-input-available": ResponseStream._end_call,
    "tool-input-error": ResponseStream._end_call,
    "message-metadata": ResponseStream._cost,
    **dict.fromkeys(("finish", "abort", "error"), ResponseStream._ended),
}


def _key(part: Part) -> str:
    """Of a text: texts and reasoning may have the same ids."""
    return f"{part['type'].partition('-')[0]}:{part['id']}"
