"""The AI SDK's door: `useChat({ api: "/ai/chat" })`, its resume, and a stop; UI message stream v1.

    POST /ai/{name}                a message begins a run in the channel `{name}:{chat}`, an approval goes on with one
    GET  /ai/{name}/{chat}/stream  what runs there, from its start; 204: nothing does
    POST /ai/{name}/{chat}/stop    stop it
    GET  /ai/{name}/{chat}/messages  all that was said: what `useChat` begins with

Source: the package `ai`, version 7, `docs/04-ai-sdk-ui/50-stream-protocol.mdx` and what its client was seen to do.
"""

from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from freshet.dialects.event_stream import stream_event
from freshet.endpoints.ai.door import RunsDoor
from freshet.endpoints.ai.streams import Progress, RunStream
from freshet.model.frame import Frame
from freshet.model.run_commands import publication_of
from freshet.model.run_messages import new_id

HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
DONE = b"data: [DONE]\n\n"
OWN = frozenset({"id", "messages", "message", "trigger", "messageId"})
"""What the SDK itself puts into the body of a request."""


class UiMessageStream(RunStream):
    """A run as a UI message stream."""

    __slots__ = ()
    kind = "ai_sdk"

    def write(self, progress: Progress) -> bytes:
        encode = msgspec.json.encode
        data = b"".join([stream_event(encode(part)) for part in progress.parts])
        return data + DONE if self._over else data

    def cut(self, reason: str) -> Frame:
        return Frame(stream_event(msgspec.json.encode({"type": "error", "errorText": f"{reason}: try again"})))


class AiSdkEndpoint:
    """All URLs of this door."""

    def __init__(self, door: RunsDoor) -> None:
        self._door = door

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A message, or an answer to an approval."""
        await self._door.begin(dialect_for, scope, receive, send, HEADERS)

    async def follow(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What runs in a chat."""
        request = await self._door.request(scope, receive, send)
        if request is not None:
            dialect = UiMessageStream(_channel(scope))
            await self._door.stream(dialect, request, scope, receive, send, HEADERS, none=204)

    async def messages(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What `useChat` begins with when a page is loaded again."""
        request = await self._door.request(scope, receive, send)
        if request is not None:
            await (await self._door.messages(_channel(scope), request, receive))(scope, receive, send)

    async def stop(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stop what runs in a chat."""
        await self._door.stop(_channel(scope), scope, receive, send)


def _channel(scope: Scope) -> str:
    return f"{scope['path_params']['name']}:{scope['path_params']['chat']}"


def dialect_for(name: str, body: dict[str, Any]) -> UiMessageStream:
    """The stream for what `useChat` sends. name: of the channels, before the colon. Raises ValueError."""
    chat = body.get("id")
    if not isinstance(chat, str) or not chat:
        raise ValueError("id: expected the chat's")
    messages = body.get("messages") or [body.get("message")]
    last = messages[-1] if isinstance(messages, list) else None
    if not isinstance(last, dict) or not isinstance(last.get("parts"), list):
        raise ValueError("messages: expected a list of UI messages")
    channel = f"{name}:{chat}"
    if last.get("role") == "assistant":
        return _answer(channel, last)
    before = [it for it in messages[:-1] if isinstance(it, dict) and it.get("role") == "assistant"]
    parent = str(before[-1].get("id")) if before else "-"
    if not isinstance(body.get("messages"), list):
        parent = ""  # an application that sends its last message alone
    # An edited message keeps its id; a request that is sent again does too, and begins no second run.
    again = body.get("trigger") == "regenerate-message" or body.get("messageId") or not last.get("id")
    run = new_id() if again else f"{last['id']}:answer"
    parts = [part for part in last["parts"] if isinstance(part, dict) and part.get("type") == "text"]
    text = "".join(str(part.get("text", "")) for part in parts)
    more = {key: value for key, value in body.items() if key not in OWN}
    asked = {**last, "text": text, **({"body": more} if more else {})}
    return UiMessageStream(channel, run, publication_of(start=asked, run=run, parent=parent))


def _answer(channel: str, message: dict[str, Any]) -> UiMessageStream:
    """To all that was asked: the run goes on in the same message."""
    answers: list[dict[str, Any]] = []
    for part in message["parts"]:
        approval = part.get("approval") if isinstance(part, dict) else None
        if isinstance(approval, dict) and part.get("state") == "approval-responded":
            said = {"approved": bool(approval.get("approved")), "reason": str(approval.get("reason") or "")}
            answers.append({"approval": str(approval.get("id")), **said})
    if not answers:
        raise ValueError("messages: the last is not the user's, and answers nothing")
    asked = [answer["approval"] for answer in answers]
    return UiMessageStream(channel, str(message.get("id")), publication_of(answers=answers), asked)
