"""The door of AG-UI 1.0: `new HttpAgent({ url: "/ag-ui/chat" })`, for channels `chat:{threadId}`.

    POST /ag-ui/{name}                               begins a run, or answers what one asked (`resume`)
    GET  /ag-ui/{name}/{thread}/runs/{run}/events    its events; `?after=N` or `Last-Event-ID`: the rest
    POST /ag-ui/{name}/{thread}/stop                 stop what runs

An event's id is how far its run has come, as in `responses.py`: so a stream is resumed within a delta. What a replay
may have fewer of (data that was replaced, the interrupt of a run that went on) does not count, and may come twice.
Whatever happens to a run, all that is open is closed before its last event: a client takes an end in the middle for
success. A run that goes on with an answer has the id that its client gives to that part of it, too.

Source: `sdks/typescript/packages/client/src/verify` of ag-ui-protocol/ag-ui, and `ag_ui.core.events` in PyPI.
"""

from collections.abc import Callable, Collection
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from freshet.dialects.event_stream import stream_event
from freshet.endpoints.ai.door import RunsDoor
from freshet.endpoints.ai.streams import NOTHING_RUNS, Progress, RunStream
from freshet.endpoints.responses import cors, plain
from freshet.model.frame import Frame
from freshet.model.run_aggregate import Part, input_text
from freshet.model.run_commands import publication_of
from freshet.model.run_messages import Summary, new_id

Fields = dict[str, Any]
LAST = 2**53  # no stream comes that far


class AgUiStream(RunStream):
    """A run as AG-UI's events. asked: the run's id as the client gives it. after: the id behind which it begins.

    run: empty: the one that has this id, or that goes on with `approvals`, as this one's client answers them.
    """

    __slots__ = ("_after", "_asked", "_at", "_calls", "_interrupts", "_open")
    kind = "ag_ui"

    def __init__(
        self,
        channel: str,
        run: str,
        ask: bytes = b"",
        *,
        asked: str,
        after: int = -1,
        approvals: Collection[str] = (),
    ) -> None:
        super().__init__(channel, run, ask, approvals)
        self._asked = asked
        self._after = after
        self._at = -1
        self._open: dict[str, Fields] = {}  # what is open: the event that closes it
        self._calls: set[str] = set()
        self._interrupts: dict[str, str] = {}  # approvals that are open: the calls that they are about

    def find(self, summary: Summary) -> str:
        for message in summary.answers:
            asked = [part["approval"] for part in message["parts"] if "approval" in part]
            goes_on = any(it["id"] in self.approvals or it.get("run") == self._asked for it in asked)
            if message["id"] == self._asked or goes_on:
                return str(message["id"])
        raise NOTHING_RUNS

    def pass_over(self, parts: list[Part]) -> None:
        self._after = LAST
        for part in parts:
            self._written(part)
        self._after = self._at

    def write(self, progress: Progress) -> bytes:
        return b"".join([self._written(part) for part in progress.parts])

    def cut(self, reason: str) -> Frame:
        return Frame(self._event("RUN_ERROR", message=f"{reason}: try again", code="cut"))

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._at += 1
        if self._at <= self._after:
            return b""
        return stream_event(msgspec.json.encode({"type": kind, **fields}), id=str(self._at))

    def _uncounted(self, kind: str, **fields: Any) -> bytes:
        if self._at < self._after:
            return b""
        return stream_event(msgspec.json.encode({"type": kind, **fields}), id=str(max(self._at, 0)))

    def _delta(self, kind: str, delta: str, **fields: Any) -> bytes:
        before, self._at = self._at, self._at + len(delta)
        if self._at <= self._after or not delta:
            return b""
        rest = delta[max(0, self._after - before) :]
        return stream_event(msgspec.json.encode({"type": kind, **fields, "delta": rest}), id=str(self._at))

    def _close(self, key: str) -> bytes:
        closing = self._open.pop(key, None)
        return self._event(**closing) if closing is not None else b""

    def _close_all(self) -> bytes:
        return b"".join([self._close(key) for key in reversed(list(self._open))])

    # ----------------------------------------------------------------------------------------------- parts of the run

    def _written(self, part: Part) -> bytes:
        kind = part["type"]
        if kind.startswith("data-"):
            return self._uncounted("CUSTOM", name=kind.removeprefix("data-"), value=part["data"])
        write = _WRITE.get(kind)
        return write(self, part) if write is not None else b""

    def _began(self, part: Part) -> bytes:
        write = self._event if self._at < 0 else self._uncounted
        return write("RUN_STARTED", threadId=self.channel.partition(":")[2], runId=self._asked)

    def _grow_text(self, part: Part) -> bytes:
        return self._delta("TEXT_MESSAGE_CONTENT", part["delta"], messageId=self._id(part))

    def _grow_reasoning(self, part: Part) -> bytes:
        return self._delta("REASONING_MESSAGE_CONTENT", part["delta"], messageId=self._id(part))

    def _end_text(self, part: Part) -> bytes:
        return self._close(f"of:{self._id(part)}") + self._close(self._id(part))

    def _grow_call(self, part: Part) -> bytes:
        return self._delta("TOOL_CALL_ARGS", part["inputTextDelta"], toolCallId=part["toolCallId"])

    def _interrupt(self, part: Part) -> bytes:
        self._interrupts[part["approvalId"]] = part["toolCallId"]
        return b""

    def _answered(self, part: Part) -> bytes:
        self._interrupts.pop(part["approvalId"], None)
        return b""

    def _custom(self, part: Part) -> bytes:
        value = {name: value for name, value in part.items() if name != "type"}
        return self._event("CUSTOM", name=part["type"], value=value)

    def _id(self, part: Part) -> str:
        """Of the message: texts of all runs are in one list, so each is called by its run, too."""
        kind = "reasoning:" if part["type"].startswith("reasoning") else ""
        return f"{self.run}:{kind}{part['id']}"

    def _begin_text(self, part: Part) -> bytes:
        id = self._id(part)
        self._open[id] = {"kind": "TEXT_MESSAGE_END", "messageId": id}
        return self._event("TEXT_MESSAGE_START", messageId=id, role="assistant")

    def _begin_reasoning(self, part: Part) -> bytes:
        id = self._id(part)
        self._open[id] = {"kind": "REASONING_END", "messageId": id}
        self._open[f"of:{id}"] = {"kind": "REASONING_MESSAGE_END", "messageId": id}
        began = self._event("REASONING_START", messageId=id)
        return began + self._event("REASONING_MESSAGE_START", messageId=id, role="reasoning")

    def _begin_call(self, part: Part) -> bytes:
        call = part["toolCallId"]
        self._calls.add(call)
        self._open[f"tool:{call}"] = {"kind": "TOOL_CALL_END", "toolCallId": call}
        return self._event("TOOL_CALL_START", toolCallId=call, toolCallName=part["toolName"])

    def _have_input(self, part: Part) -> bytes:
        call, data = part["toolCallId"], b""
        if call not in self._calls:
            data = self._begin_call(part)
            data += self._delta("TOOL_CALL_ARGS", input_text(part.get("input")), toolCallId=call)
        return data + self._close(f"tool:{call}")

    def _have_output(self, part: Part) -> bytes:
        if part.get("preliminary"):
            return b""  # a call has one result here
        call = part["toolCallId"]
        output = part.get("output", part.get("errorText", "denied"))
        content = output if isinstance(output, str) else msgspec.json.encode(output).decode()
        return self._event("TOOL_CALL_RESULT", messageId=f"{call}:result", toolCallId=call, content=content)

    def _ended(self, part: Part) -> bytes:
        return self._close_all() + self._end(part)

    def _end(self, part: Part) -> bytes:
        about: Fields = {"threadId": self.channel.partition(":")[2], "runId": self._asked}
        match part["type"]:
            case "error":
                return self._event("RUN_ERROR", message=part.get("errorText") or "the run failed")
            case "abort":
                return self._event("RUN_FINISHED", **about, outcome={"type": "cancelled"})
            case _ if part.get("finishReason") == "tool-calls" and self._interrupts:
                asked = [{"id": id, "reason": "tool_call", "toolCallId": call} for id, call in self._interrupts.items()]
                return self._uncounted("RUN_FINISHED", **about, outcome={"type": "interrupt", "interrupts": asked})
            case _:
                return self._event("RUN_FINISHED", **about, outcome={"type": "success"})


_WRITE: dict[str, Callable[[AgUiStream, Part], bytes]] = {
    "start": AgUiStream._began,
    "text-start": AgUiStream._begin_text,
    "text-delta": AgUiStream._grow_text,
    "text-end": AgUiStream._end_text,
    "reasoning-start": AgUiStream._begin_reasoning,
    "reasoning-delta": AgUiStream._grow_reasoning,
    "reasoning-end": AgUiStream._end_text,
    "tool-input-start": AgUiStream._begin_call,
    "tool-input-delta": AgUiStream._grow_call,
    "tool-input-available": AgUiStream._have_input,
    "tool-input-error": AgUiStream._have_input,
    "tool-output-available": AgUiStream._have_output,
    "tool-output-error": AgUiStream._have_output,
    "tool-output-denied": AgUiStream._have_output,
    "tool-approval-request": AgUiStream._interrupt,
    "tool-approval-response": AgUiStream._answered,
    **dict.fromkeys(("source-url", "source-document", "custom", "file"), AgUiStream._custom),
    **dict.fromkeys(("finish", "abort", "error"), AgUiStream._ended),
}


class AgUiEndpoint:
    """All URLs of this door."""

    def __init__(self, door: RunsDoor) -> None:
        self._door = door

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin a run, or answer one."""
        await self._door.begin(stream_for, scope, receive, send)

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The events of a run, or the rest of them."""
        request = await self._door.request(scope, receive, send)
        if request is None:
            return
        after = request.headers.get("last-event-id") or request.query.get("after") or "-1"
        if not after.removeprefix("-").isdecimal() or len(after) > 15:
            await plain(400, "after: expected the id of an event.\n", cors(request))(scope, receive, send)
            return
        dialect = AgUiStream(_channel(scope), "", asked=scope["path_params"]["run"], after=int(after))
        await self._door.stream(dialect, request, scope, receive, send)

    async def stop(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._door.stop(_channel(scope), scope, receive, send)


def _channel(scope: Scope) -> str:
    return f"{scope['path_params']['name']}:{scope['path_params']['thread']}"


def stream_for(name: str, body: dict[str, Any]) -> AgUiStream:
    """The stream for what `HttpAgent` sends. Raises ValueError."""
    thread, messages = body.get("threadId"), body.get("messages") or []
    if not isinstance(thread, str) or not thread or not isinstance(messages, list):
        raise ValueError("expected a threadId, and messages in a list")
    channel, asked = f"{name}:{thread}", str(body.get("runId") or new_id())
    answers = body.get("resume")
    if isinstance(answers, list) and answers:
        return _answering(channel, asked, answers)
    last = messages[-1] if messages and isinstance(messages[-1], dict) else {}
    content = last.get("content", "")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    more = {key: body[key] for key in ("state", "tools", "context", "forwardedProps") if key in body}
    message = {"text": content, "messages": messages, "body": more}
    return AgUiStream(channel, asked, publication_of(start=message, run=asked), asked=asked)


def _answering(channel: str, asked: str, answers: list[Any]) -> AgUiStream:
    """The run that asked goes on, under the id that the client gives this part of it."""
    said: dict[str, bool] = {}
    for answer in answers:
        if not isinstance(answer, dict) or not isinstance(answer.get("interruptId"), str):
            raise ValueError("resume: expected interruptId and status")
        payload = answer.get("payload")
        approved = answer.get("status") == "resolved"
        if isinstance(payload, dict) and "approved" in payload:
            approved = approved and bool(payload["approved"])
        said[answer["interruptId"]] = approved
    ask = publication_of(answers=[{"approval": id, "approved": approved} for id, approved in said.items()], run=asked)
    return AgUiStream(channel, "", ask, asked=asked, approvals=said)
