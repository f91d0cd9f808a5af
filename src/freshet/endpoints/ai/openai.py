"""The door of OpenAI's shape: `OpenAI(base_url=".../openai/chat/v1")`, for channels `chat:...`.

    POST /openai/{name}/v1/chat/completions         a run, in a channel of its own or in that of `X-Chat-Id`
    POST /openai/{name}/v1/responses                the same; with `previous_response_id` in that one's channel
    GET  /openai/{name}/v1/responses/{id}           what it has so far; `?stream=true&starting_after=N`: the rest
    POST /openai/{name}/v1/responses/{id}/cancel    stop it

Its clients retry a POST without a key: one that says so in `x-stainless-retry-count` gets the run of the one before.
"""

import hashlib
import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.endpoints.ai.completions import Completion
from freshet.endpoints.ai.door import RunsDoor
from freshet.endpoints.ai.responses import ResponseStream
from freshet.endpoints.ai.streams import Once, RunStream
from freshet.endpoints.channels import refusal
from freshet.endpoints.responses import cors, plain
from freshet.errors import Disconnect
from freshet.model.commands import Command, Publish, Subscribe
from freshet.model.events import Event
from freshet.model.frame import Handshake
from freshet.model.log import History, PublishOptions
from freshet.model.run_commands import publication_of
from freshet.node.owners import Site
from freshet.policy.base import Context

REPEATS = History(1, 600)  # how long it is known which run a request has begun
LONGEST = 3600.0  # seconds that a request without a stream waits for its run
LONGEST_MODEL = 256  # characters of a model's name, which stands in each chunk of an answer


class _ModelRequest(NamedTuple):
    """A request of a client. again: it may have been sent before. chat: of which it is; empty: of the run's own.

    message: what the run's function gets. parent: of the run.
    """

    name: str
    body: dict[str, Any]
    request: Handshake
    again: bool
    prefix: str = ""
    chat: str = ""
    message: Mapping[str, Any] = MappingProxyType({})
    parent: str = ""

    def place(self, user: str) -> str:
        """Where it is noted which run it has begun: another's request is another one, whatever it says."""
        who = user or self.request.client.rpartition(":")[0]
        given = [self.name, who, self.request.headers.get("idempotency-key") or self.body]
        return f"\0asked:{hashlib.sha256(msgspec.json.encode(given, order='deterministic')).hexdigest()}"


class BeginRun(Command, frozen=True):
    """Begins the run that a request asks for, or finds the one that it has begun before."""

    asked: Any
    id: int = 2


class OpenAiEndpoint:
    """All URLs of this door."""

    def __init__(self, door: RunsDoor) -> None:
        self._door = door
        self._node = door.dispatcher.node
        door.dispatcher.register(BeginRun, self._begin)

    async def completions(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = await self._asked(scope, receive, send)
        if asked is None:
            return
        messages = asked.body.get("messages")
        if not isinstance(messages, list) or not messages:
            await plain(400, "messages: expected a list.\n", cors(asked.request))(scope, receive, send)
            return
        options = asked.body.get("stream_options")
        chat = asked.request.headers.get("x-chat-id", "")
        dialect = Completion(
            BeginRun(asked._replace(prefix="chatcmpl-", chat=chat, message=_message(messages, asked.body))),
            model=_model(asked.body),
            created=int(self._node.clock.wall()),
            streams=bool(asked.body.get("stream")),
            usage=isinstance(options, dict) and bool(options.get("include_usage")),
        )
        await self._answer(dialect, bool(asked.body.get("stream")), asked.request, scope, receive, send)

    async def responses(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = await self._asked(scope, receive, send)
        if asked is None:
            return
        given, before = asked.body.get("input", ""), str(asked.body.get("previous_response_id") or "")
        messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
        if not isinstance(messages, list):
            await plain(400, "input: expected a text or a list.\n", cors(asked.request))(scope, receive, send)
            return
        chat = _chat_of(before) or secrets.token_hex(12)
        begin = BeginRun(asked._replace(prefix=f"resp_{chat}.", message=_message(messages, asked.body), parent=before))
        streams = bool(asked.body.get("stream"))
        background = bool(asked.body.get("background")) and not streams
        dialect = ResponseStream(
            "",
            "",
            begin,
            model=_model(asked.body),
            created=int(self._node.clock.wall()),
            streams=streams,
        )
        if not background:
            await self._answer(dialect, streams, asked.request, scope, receive, send)
            return
        once = Once("", first=begin)
        why = await self._door.ask(once, asked.request, receive)
        dialect.choose(once.channel, once.begun)
        body = msgspec.json.encode(dialect.response)
        answer = _json(body, asked.request) if why is None else refusal(why, cors(asked.request))
        await answer(scope, receive, send)

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
        asked = publication_of(stop=scope["path_params"]["id"], reason="cancelled")
        why = await self._door.ask(Once(_channel(scope), asked), request, receive)
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
        if len(_model(body)) > LONGEST_MODEL:
            answer = plain(400, f"model: expected at most {LONGEST_MODEL} characters.\n", cors(request))
            await answer(scope, receive, send)
            return None
        headers = request.headers
        again = "idempotency-key" in headers or headers.get("x-stainless-retry-count", "0") != "0"
        return _ModelRequest(scope["path_params"]["name"], body, request, again)

    async def _begin(self, node: Site, context: Context, command: BeginRun) -> Event | None:
        """For a client that is known by now. It is noted what it has begun once it is known that it may be there."""
        session, asked = context.session, command.asked
        assert session is not None  # it is a client's command
        dialect, place, perform = (
            cast(RunStream, session.dialect),
            asked.place(session.user),
            self._door.dispatcher.perform,
        )
        run = await self._begun_before(place) if asked.again else ""
        is_new, run = not run, run or asked.prefix + secrets.token_hex(12)
        chat = asked.chat or _chat_of(run)
        dialect.choose(f"{asked.name}:{chat}", run)
        subscribed = await perform(session, Subscribe(dialect.channel, id=2))
        if is_new:
            await self._node.engine.publish(place, run.encode(), PublishOptions(history=REPEATS))
        if subscribed is not None:
            session.push(subscribed)
        asks = publication_of(start=asked.message, run=run, parent=asked.parent)
        return await perform(session, Publish(dialect.channel, asks, id=3))

    async def _begun_before(self, place: str) -> str:
        known = (await self._node.engine.history(place, REPEATS)).publications
        return known[-1].data.decode() if known else ""

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


def _model(body: Mapping[str, Any]) -> str:
    return str(body.get("model", ""))


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
