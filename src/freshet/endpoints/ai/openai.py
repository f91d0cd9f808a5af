"""The door of OpenAI's shape: `OpenAI(base_url=".../openai/chat/v1")`, for channels `chat:...`.

    POST /openai/{name}/v1/chat/completions         a run, in a channel of its own or in that of `X-Chat-Id`
    POST /openai/{name}/v1/responses                the same; with `previous_response_id` in that one's channel
    GET  /openai/{name}/v1/responses/{id}           what it has so far; `?stream=true&starting_after=N`: the rest
    POST /openai/{name}/v1/responses/{id}/cancel    stop it

Its clients retry a POST without a key: one that says so in `x-stainless-retry-count` gets the run of the one before.
"""

import hashlib
import secrets
from typing import Any, NamedTuple

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.endpoints.ai.completions import Completion
from freshet.endpoints.ai.responses import ResponseStream
from freshet.endpoints.ai.streams import RunsDoor, RunStream, command
from freshet.endpoints.channels import refusal
from freshet.endpoints.opening import cors, plain
from freshet.errors import Disconnect
from freshet.model.frame import Handshake
from freshet.model.log import History, PublishOptions

REPEATS = History(1, 600)  # how long it is known which run a request has begun
LONGEST = 3600.0  # seconds that a request without a stream waits for its run


class _ModelRequest(NamedTuple):
    """A request of a client. again: it may have been sent before."""

    name: str
    body: dict[str, Any]
    request: Handshake
    again: bool

    @property
    def key(self) -> str:
        """Which its client sends along, so that it is done once; empty: none."""
        return self.request.headers.get("idempotency-key", "")

    @property
    def digest(self) -> str:
        """The same if it comes again; never that of another client."""
        what = self.key or self.body
        given = [self.name, what, self.request.headers.get("authorization", "")]
        return hashlib.sha256(msgspec.json.encode(given, order="deterministic")).hexdigest()


class OpenAiEndpoint:
    """All URLs of this door."""

    def __init__(self, door: RunsDoor) -> None:
        self._door = door
        self._node = door.dispatcher.node

    async def completions(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = await self._asked(scope, receive, send)
        if asked is None:
            return
        messages = asked.body.get("messages")
        if not isinstance(messages, list) or not messages:
            await plain(400, "messages: expected a list.\n", cors(asked.request))(scope, receive, send)
            return
        run = await self._run_of(asked, "chatcmpl-")
        chat = asked.request.headers.get("x-chat-id") or run
        options = asked.body.get("stream_options") or {}
        dialect = Completion(
            f"{asked.name}:{chat}",
            run,
            command(start=_message(messages, asked.body), run=run),
            model=str(asked.body.get("model", "")),
            created=int(self._node.clock.wall()),
            streams=bool(asked.body.get("stream")),
            usage=bool(options.get("include_usage")),
        )
        await self._answer(dialect, bool(asked.body.get("stream")), asked.request, scope, receive, send)

    async def responses(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = await self._asked(scope, receive, send)
        if asked is None:
            return
        given, before = asked.body.get("input", ""), str(asked.body.get("previous_response_id") or "")
        messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
        chat = _chat_of(before) or secrets.token_hex(12)
        run = await self._run_of(asked, f"resp_{chat}.")
        asking = command(start=_message(messages, asked.body), run=run, parent=before)
        streams = bool(asked.body.get("stream"))
        dialect = ResponseStream(
            f"{asked.name}:{_chat_of(run)}",
            run,
            asking,
            model=str(asked.body.get("model", "")),
            created=int(self._node.clock.wall()),
            streams=streams,
        )
        if asked.body.get("background") and not streams:
            why = await self._door.ask(dialect.channel, asking, asked.request, receive)
            body = msgspec.json.encode(dialect.response)
            await (_json(body, asked.request) if why is None else refusal(why, cors(asked.request)))(
                scope, receive, send
            )
            return
        await self._answer(dialect, streams, asked.request, scope, receive, send)

    async def retrieve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What a response has so far, or the rest of its stream."""
        request = await self._door.request(scope, receive, send)
        if request is None:
            return
        streams, after = request.query.get("stream") == "true", request.query.get("starting_after", "-1")
        if not after.removeprefix("-").isdecimal() or len(after) > 15:
            await plain(400, "starting_after: expected a number.\n", cors(request))(scope, receive, send)
            return
        dialect = ResponseStream(_channel(scope), scope["path_params"]["id"], after=int(after), streams=streams)
        await self._answer(dialect, streams, request, scope, receive, send)

    async def cancel(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await self._door.request(scope, receive, send)
        if request is None:
            return
        asked = command(stop=scope["path_params"]["id"], reason="cancelled")
        why = await self._door.ask(_channel(scope), asked, request, receive)
        if why is not None:
            await refusal(why, cors(request))(scope, receive, send)
            return
        dialect = ResponseStream(_channel(scope), scope["path_params"]["id"], streams=False)
        await self._answer(dialect, False, request, scope, receive, send)

    # ------------------------------------------------------------------------------------------------------------ parts

    async def _asked(self, scope: Scope, receive: Receive, send: Send) -> _ModelRequest | None:
        request = await self._door.request(scope, receive, send)
        if request is None:
            return None
        body = await self._door.body(request, scope, receive, send)
        if body is None:
            return None
        again = request.headers.get("x-stainless-retry-count", "0") != "0"
        return _ModelRequest(scope["path_params"]["name"], body, request, again)

    async def _run_of(self, asked: _ModelRequest, prefix: str) -> str:
        """The id of a new run, or of the one that the same request has begun before."""
        place = f"\0asked:{asked.digest}"
        if asked.again or asked.key:
            known = (await self._node.engine.history(place, REPEATS)).publications
            if known:
                return known[-1].data.decode()
        run = prefix + secrets.token_hex(12)
        await self._node.engine.publish(place, run.encode(), PublishOptions(history=REPEATS))
        return run

    async def _answer(
        self, dialect: RunStream, streams: bool, request: Handshake, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if streams:
            await self._door.stream(dialect, request, scope, receive, send)
            return
        frame = await self._door.collect(dialect, request, receive, LONGEST)
        if isinstance(frame, Disconnect):
            await refusal(frame, cors(request))(scope, receive, send)
            return
        failed = isinstance(dialect, Completion) and dialect.failed
        # 422: its clients do not try that again.
        await _json(frame.data, request, 422 if failed else 200)(scope, receive, send)


def _json(body: bytes, request: Handshake, status: int = 200) -> Response:
    return Response(body, status, cors(request), "application/json")


def _channel(scope: Scope) -> str:
    return f"{scope['path_params']['name']}:{_chat_of(scope['path_params']['id']) or '-'}"


def _chat_of(response: str) -> str:
    """The chat that a response is of, which its id names."""
    return response.removeprefix("resp_").partition(".")[0]


def _message(messages: list[Any], body: dict[str, Any]) -> dict[str, Any]:
    """What the run's function gets: the last message's text, and all that was asked."""
    last = messages[-1] if messages and isinstance(messages[-1], dict) else {}
    content = last.get("content", "")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return {"text": content, "messages": messages, "body": body}
