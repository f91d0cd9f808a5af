"""What the doors for AI clients share: a request opens a session that asks one thing, and is answered by one run."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.commands.dispatch import Dispatcher
from freshet.dialects.base import Dialect
from freshet.endpoints.ai.streams import NOTHING_RUNS, Messages, Once, RunStream
from freshet.endpoints.channels import refusal
from freshet.endpoints.opening import Opening
from freshet.endpoints.responses import TOO_BIG, at_most, cors, plain, raw
from freshet.errors import Disconnect
from freshet.model.frame import Frame, Handshake
from freshet.model.json_text import whole
from freshet.model.run_commands import publication_of
from freshet.session.session import Session
from freshet.transports import stream


class RunsDoor:
    """Opens sessions for requests, and answers them. limits: what a body may have."""

    def __init__(self, opening: Opening, dispatcher: Dispatcher) -> None:
        self.opening = opening
        self.dispatcher = dispatcher
        self._bound = dispatcher.limits.frame

    async def request(self, scope: Scope, receive: Receive, send: Send) -> Handshake | None:
        """None: it has been answered."""
        return await self.opening.open(scope, receive, send)

    async def body(self, request: Handshake, scope: Scope, receive: Receive, send: Send) -> dict[str, Any] | None:
        """The JSON object that a request holds. None: it holds something else, and has been answered."""
        data = await self.dispatcher.read_body(receive, self._bound.size)
        answer: Response
        if data is None:
            self.dispatcher.too_big("the doors for AI clients", self._bound)
            answer = plain(TOO_BIG, at_most(self._bound), cors(request))
        else:
            try:
                return msgspec.json.decode(whole(data), type=dict[str, Any])
            except (msgspec.MsgspecError, RecursionError) as why:
                answer = plain(400, f"Expected a JSON object: {why}.\n", cors(request))
        await answer(scope, receive, send)
        return None

    async def begin(
        self,
        make: Callable[[str, dict[str, Any]], RunStream],
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer with the parts of the run that a request begins, or goes on with.

        make: the stream for a name in the URL and a body; it raises ValueError for what cannot be.
        """
        request = await self.request(scope, receive, send)
        if request is None:
            return
        body = await self.body(request, scope, receive, send)
        if body is None:
            return
        try:
            dialect = make(scope["path_params"]["name"], body)
        except ValueError as why:
            await plain(400, f"{why}.\n", cors(request))(scope, receive, send)
            return
        await self.stream(dialect, request, scope, receive, send, headers)

    async def stop(self, channel: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Stop what runs in a channel."""
        request = await self.request(scope, receive, send)
        if request is not None:
            why = await self.ask(Once(channel, publication_of(stop="", reason="user")), request, receive)
            answer = Response(None, 204, cors(request)) if why is None else refusal(why, cors(request))
            await answer(scope, receive, send)

    def open(self, dialect: Dialect, request: Handshake) -> Session:
        session = self.dispatcher.open(dialect, request)
        session.open()
        return session

    async def stream(
        self,
        dialect: RunStream,
        request: Handshake,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Mapping[str, str] | None = None,
        none: int = 404,
    ) -> None:
        """Answer with the run's parts. none: the status when there is no such run."""
        opened: list[Session] = []
        dialect.ended = lambda: end_soon(opened)
        session = self.dispatcher.open(dialect, request)
        opened.append(session)
        session.open()
        allow = {**cors(request), **(headers or {})}
        why = await stream.converse(session, stream.EVENTS, raw(allow), receive, send)
        if why is not None:
            await self._unwritten(dialect, why, none, allow)(scope, receive, send)

    @staticmethod
    def _unwritten(dialect: RunStream, why: Disconnect, none: int, headers: dict[str, str]) -> Response:
        """The answer where no stream has begun."""
        if dialect.is_over:  # the client has all of it
            return Response(b"", 200, headers, "text/event-stream")
        return Response(None, none, headers) if why.reason == NOTHING_RUNS.reason else refusal(why, headers)

    async def collect(
        self, dialect: RunStream, request: Handshake, receive: Receive, wait: float
    ) -> Frame | Disconnect:
        """The one frame that a stream amounts to. wait: seconds."""
        session = self.open(dialect, request)
        frames = await stream.collect(session, receive, wait, bool)
        return frames if isinstance(frames, Disconnect) else frames[0]

    async def messages(self, channel: str, request: Handshake, receive: Receive) -> Response:
        """What was said in a channel, and what runs: a `Summary`."""
        session = self.open(Messages(channel), request)
        frames = await stream.collect(session, receive, self.dispatcher.timing.connect_timeout, bool)
        if isinstance(frames, Disconnect):
            return refusal(frames, cors(request))
        return Response(frames[0].data, 200, cors(request), "application/json")

    async def ask(self, once: Once, request: Handshake, receive: Receive) -> Disconnect | None:
        """Have something done to a channel's runs. None: it is done; otherwise why not."""
        session = self.open(once, request)
        frames = await stream.collect(session, receive, self.dispatcher.timing.connect_timeout, bool)
        return frames if isinstance(frames, Disconnect) else None


def end_soon(opened: list[Session]) -> None:
    """End the session once what is being encoded is in its outbox."""
    for session in opened:
        asyncio.get_running_loop().call_soon(session.close, Disconnect.normal())
