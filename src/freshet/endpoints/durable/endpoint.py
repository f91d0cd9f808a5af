"""`/v1/stream/{channel}`: the protocol of Durable Streams over HTTP, as its PROTOCOL.md (1.0) has it.

Reading needs the right to subscribe, appending that to publish; creating, closing and deleting the rule's `manage`.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from freshet.commands.dispatch import Dispatcher
from freshet.commands.publishing import publish
from freshet.dialects.durable import (
    NOTHING,
    StreamAnswered,
    StreamCommand,
    StreamEvents,
    StreamPage,
    StreamPoll,
    StreamRequest,
)
from freshet.endpoints.channels import STATUS
from freshet.endpoints.durable.logs import StreamLogs
from freshet.endpoints.durable.reading import StreamReader
from freshet.endpoints.durable.record import BadRequest
from freshet.endpoints.durable.streams import Outcome, StreamConfig, Streams, Write
from freshet.endpoints.durable.wire import (
    EXPOSED,
    SECURITY,
    VARY,
    Reading,
    closes,
    config_of,
    content_type,
    cursor_at,
    reading,
    write_of,
)
from freshet.endpoints.opening import Opening
from freshet.endpoints.responses import TOO_BIG, at_most, cors
from freshet.errors import Disconnect, Refusal
from freshet.model.commands import Manage, Publish, Subscribe
from freshet.model.events import Event
from freshet.model.frame import Frame, Handshake
from freshet.model.log import History, Kind
from freshet.node.owners import Site
from freshet.policy.base import Context
from freshet.policy.limits import Waiting
from freshet.rules.hooks import as_payload
from freshet.rules.rules import ChannelRule
from freshet.session.outbox import AT_ONCE
from freshet.session.session import Session
from freshet.transports import stream

METHODS = "GET, HEAD, PUT, POST, DELETE, OPTIONS"
LONG_POLL = 20.0  # seconds
CACHED = "private, max-age=60, stale-while-revalidate=300"  # a part of a log that does not change
TAIL = "private, no-cache"  # one that may go on: to be asked for again, by its tag
LATE = Outcome(503, {"Retry-After": "1"}, "The log was not read in time.\n")
STATUSES = {**STATUS, 4608: 404}


class Head(NamedTuple):
    """Asks what a stream is."""


class Delete(NamedTuple):
    """Asks for a stream's end."""


class Create(NamedTuple):
    config: StreamConfig
    write: Write


class StreamPlace(NamedTuple):
    """Where a command acts: the channel's rule, what of its name fits there, and what its log keeps."""

    rule: ChannelRule
    parameters: Mapping[str, str]
    keep: History


def durable_routes(opening: Opening, dispatcher: Dispatcher) -> list[BaseRoute]:
    """Its URL, below whatever prefix it is mounted under."""
    return [Route("/v1/stream/{channel:freshet_channel}", DurableEndpoint(opening, dispatcher))]


class DurableEndpoint:
    """All that HTTP can do with a stream."""

    def __init__(self, opening: Opening, dispatcher: Dispatcher) -> None:
        self._opening = opening
        self._dispatcher = dispatcher
        self._limits = dispatcher.limits
        self._node = dispatcher.node
        self._logs = StreamLogs(dispatcher.node, partial(publish, dispatcher.node))
        self._streams = Streams(dispatcher.node, self._logs)
        self._reader = StreamReader(dispatcher, self._logs)
        self._waiting = Waiting(self._limits.waiting_requests, self._limits.waiting_per_address, dispatcher.counts)
        dispatcher.register(StreamCommand, self._run)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await self._opening.open(scope, receive, send, admit=False, methods=METHODS)
        if request is None:
            return
        channel = scope["path_params"]["channel"]
        response: Response | None
        try:
            if scope["method"] == "GET":
                response = await self._read(channel, scope, request, receive, send)
            elif not await self._opening.admit(request, scope, receive, send):
                return
            elif scope["method"] in ("PUT", "POST"):
                response = await self._write(channel, scope, request, receive)
            elif scope["method"] in ("HEAD", "DELETE"):
                ask = Head() if scope["method"] == "HEAD" else Delete()
                response = await self._ask(request, receive, StreamRequest(channel, ask))
            else:
                response = self._respond(request, Outcome(405, {"Allow": METHODS}, f"Expected {METHODS}.\n"))
        except BadRequest as why:
            response = self._respond(request, Outcome(400, text=f"{why}.\n"))
        if response is not None:
            await response(scope, receive, send)

    def _open(self, dialect: StreamRequest, request: Handshake) -> Session:
        session = self._dispatcher.open(dialect, request)
        session.open()
        return session

    # ---------------------------------------------------------------------------------------------------------- answers

    def _respond(self, request: Handshake, outcome: Outcome, body: bytes = b"") -> Response:
        shown = {"Access-Control-Expose-Headers": EXPOSED, "Vary": VARY}
        headers = {**cors(request, METHODS), **SECURITY, **shown, **outcome.headers}
        if outcome.text:
            headers["Content-Type"] = "text/plain; charset=utf-8"
        return Response(body or outcome.text.encode() or None, outcome.status, headers)

    def _refuse(self, request: Handshake, why: Disconnect) -> Response:
        status = STATUSES.get(why.code, 503 if why.reconnect else 403)
        headers = {"Retry-After": "1"} if status in (429, 503) else {}
        return self._respond(request, Outcome(status, headers, f"{why.reason or why}\n"))

    async def _ask(self, request: Handshake, receive: Receive, dialect: StreamRequest) -> Response:
        session = self._open(dialect, request)
        frames = await stream.collect(session, receive, self._dispatcher.timing.connect_timeout, dialect.answered)
        if isinstance(frames, Disconnect):
            return self._refuse(request, frames)
        return self._respond(request, dialect.answer or LATE)

    # ---------------------------------------------------------------------------------------------------------- writing

    async def _write(self, channel: str, scope: Scope, request: Handshake, receive: Receive) -> Response:
        bound, headers = self._limits.message, request.headers
        body = await self._dispatcher.read_body(receive, bound.size)
        if body is None:
            self._dispatcher.too_big("/v1/stream", bound)
            return self._respond(request, Outcome(TOO_BIG, text=at_most(bound)))
        if scope["method"] == "PUT":
            config = config_of(headers)
            outcome = Create(config, write_of(headers, body, config.type, creates=True))
            response = await self._ask(request, receive, StreamRequest(channel, outcome))
            if response.status_code == HTTPStatus.CREATED:
                path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
                host = headers.get("host")
                response.headers["Location"] = f"{scope['scheme']}://{host}{path}" if host else path
            return response
        if not body and not closes(headers):
            raise BadRequest("the body is empty")
        kind = content_type(headers)
        if body and not kind:
            raise BadRequest("Content-Type: expected that of the stream")
        return await self._ask(request, receive, StreamRequest(channel, write_of(headers, body, kind)))

    # ---------------------------------------------------------------------------------------------------------- reading

    async def _read(
        self, channel: str, scope: Scope, request: Handshake, receive: Receive, send: Send
    ) -> Response | None:
        ask = reading(scope["query_string"])
        polls = ask.live == "long-poll"
        if polls and (status := self._waiting.refusal(request.client)):
            return self._respond(request, Outcome(status, {"Retry-After": "5"}, "Too many requests are waiting.\n"))
        if not await self._opening.admit(request, scope, receive, send, resumes=ask.offset not in ("-1", "now")):
            return None
        if ask.live == "sse":
            return await self._events(channel, ask, request, receive, send)
        dialect = StreamPoll(channel, ask)
        if polls:
            with self._waiting.one(request.client):
                return await self._poll(dialect, ask, request, receive)
        session = self._open(dialect, request)
        frames = await stream.collect(session, receive, self._dispatcher.timing.connect_timeout, dialect.answered)
        return self._refuse(request, frames) if isinstance(frames, Disconnect) else self._page(dialect, ask, request)

    def _page(self, dialect: StreamRequest, ask: Reading, request: Handshake) -> Response:
        page = dialect.answer
        if not isinstance(page, StreamPage):
            return self._respond(request, page or LATE)
        headers = _headers(page)
        if ask.live:
            headers["Stream-Cursor"] = str(cursor_at(self._node.clock.wall(), ask.cursor))
        if ask.live and not page.parts:
            return self._respond(request, Outcome(204, {**headers, "Cache-Control": "no-store"}))
        if ask.offset == "now" and not page.parts:
            headers["Cache-Control"] = "no-store"
        else:
            headers |= {"ETag": page.etag, "Cache-Control": TAIL if page.up_to_date else CACHED}
            if page.etag in request.headers.get("if-none-match", ""):
                return self._respond(request, Outcome(304, headers))
        return self._respond(request, Outcome(200, headers), page.body)

    async def _poll(self, dialect: StreamPoll, ask: Reading, request: Handshake, receive: Receive) -> Response:
        def enough(frames: list[Frame]) -> bool:
            page = dialect.answer
            return page is not None and (
                len(frames) > 1 or not isinstance(page, StreamPage) or bool(page.parts) or page.closed
            )

        session = self._dispatcher.open(dialect, request)
        end = self._logs.watch(dialect.channel, lambda: session.outbox.push(NOTHING))
        try:
            session.open()
            frames = await stream.collect(session, receive, LONG_POLL, enough)
        finally:
            end()
        if isinstance(frames, Disconnect):
            return self._refuse(request, frames)
        page = dialect.answer
        if isinstance(page, StreamPage) and not page.parts and not page.closed and len(frames) > 1:
            dialect.answer = await self._read_on(dialect.channel, page)
        return self._page(
            dialect, Reading(page.next if isinstance(page, StreamPage) else "", ask.live, ask.cursor), request
        )

    async def _read_on(self, channel: str, page: StreamPage) -> StreamPage | Outcome:
        """What came, for a reader who was let in already."""
        keep = self._place(channel).keep
        loaded = await self._logs.load(channel, keep)
        if loaded.record is None or loaded.record.deleted:
            return Outcome(410 if loaded.record is not None else 404, text="The stream was deleted.\n")
        return await self._reader.read(channel, keep, loaded, page.end)

    async def _events(
        self, channel: str, ask: Reading, request: Handshake, receive: Receive, send: Send
    ) -> Response | None:
        clock = self._node.clock
        floor = cursor_at(clock.wall(), ask.cursor) if ask.cursor >= cursor_at(clock.wall()) else 0
        dialect = StreamEvents(channel, ask, lambda: cursor_at(clock.wall()), floor)
        headers = {**cors(request, METHODS), **SECURITY, "Access-Control-Expose-Headers": EXPOSED}
        headers.pop("Cache-Control", None)
        dialect.headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        session = self._dispatcher.open(dialect, request)

        def wrap(frame: Frame) -> bytes:
            has_all = dialect.sent(frame)
            if has_all or dialect.is_part:
                session.close(Disconnect.normal())
            if not has_all or dialect.closes(frame):
                return frame.data
            return frame.data + dialect.control(dialect.token(dialect.final), up_to_date=True, closed=True)

        end = self._logs.watch(channel, lambda: self._look_again(session, dialect))
        try:
            session.open()
            form = stream.Form(b"text/event-stream", wrap, by_status=True)
            why = await stream.converse(session, form, dialect.headers, receive, send)
        finally:
            end()
        return self._refuse(request, why) if why is not None else None

    def _look_again(self, session: Session, dialect: StreamEvents) -> None:
        """The stream of an event stream was closed, or is no more."""
        session.host.tasks.start(self._end(session, dialect), "streams: end of a reader")

    async def _end(self, session: Session, dialect: StreamEvents) -> None:
        record = (await self._logs.load(dialect.channel, self._place(dialect.channel).keep)).record
        if record is None or record.deleted:
            session.close(Disconnect.normal())
        elif record.closed:
            dialect.final = record.final
            if dialect.last >= record.final:
                session.outbox.push(Frame(dialect.control(record.token(record.final), up_to_date=True, closed=True)))

    # -------------------------------------------------------------------------------------------- what a session asks

    def _place(self, channel: str) -> StreamPlace:
        """Raises `Refusal`."""
        rule, parameters = self._node.rules.find(channel)
        if rule.history is None or rule.owner != "log":
            raise Refusal.not_available(f"{channel!r} keeps no history")
        return StreamPlace(rule, parameters, rule.history)

    async def _run(self, node: Site, context: Context, command: StreamCommand) -> Event | None:
        session, channel, ask = context.session, command.channel, command.ask
        assert session is not None
        place = self._place(channel)
        try:
            if isinstance(ask, Reading):
                # What is published from now on comes behind the page: nothing may be waited for before that is out.
                session.push(await self._reader.open(session, channel, place.keep, ask))
                await self._touch(channel, place.keep)
                return None
            if isinstance(ask, Head):
                outcome = await self._reader.head(session, channel, place.keep)
            elif isinstance(ask, Delete):
                await self._may(session, place, Manage(channel))
                outcome = await self._streams.delete(channel, place.keep)
            elif isinstance(ask, Create):
                outcome = await self._create(session, channel, place, ask)
            else:
                if ask.close:
                    await self._may(session, place, Manage(channel))
                write = await self._checked(session, channel, place, ask)
                outcome = await self._streams.write(channel, place.keep, write)
        except BadRequest as why:
            outcome = Outcome(400, text=f"{why}.\n")
        return StreamAnswered(outcome)

    async def _touch(self, channel: str, keep: History) -> None:
        loaded = await self._logs.load(channel, keep)
        await self._logs.touch(channel, keep, loaded)

    async def _create(self, session: Session, channel: str, place: StreamPlace, ask: Create) -> Outcome:
        await self._may(session, place, Manage(channel))
        source = None
        if ask.config.fork is not None:
            source = self._place(ask.config.fork.source).keep
            if ask.config.fork.source != channel:
                await self._dispatcher.perform(session, Subscribe(ask.config.fork.source, id=3))
        write = await self._checked(session, channel, place, ask.write)
        return await self._streams.create(channel, place.keep, ask.config, write, source)

    async def _may(self, session: Session, place: StreamPlace, command: Manage | Publish) -> None:
        """Raises `Refusal`."""
        pending = self._dispatcher.policies.check(Context(session, place.rule, dict(place.parameters)), command)
        if pending is not None:
            await pending

    async def _checked(self, session: Session, channel: str, place: StreamPlace, write: Write) -> Write:
        """As the policies and the rule's hook let it be: all messages, or none is written. Raises `Refusal`."""
        parts: list[bytes] = []
        for data in write.parts:
            if len(parts) % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)  # other clients have their turn
            await self._may(session, place, Publish(channel, data, kind=write.kind))
            parts.append(await self._hooked(session, channel, place, data, write.kind))
        return write._replace(parts=parts, info=session.client_info())

    async def _hooked(self, session: Session, channel: str, place: StreamPlace, data: bytes, kind: Kind) -> bytes:
        hook = place.rule.on_publish
        if hook is None:
            return data
        given = data.decode() if kind is Kind.TEXT else memoryview(data) if kind is Kind.BYTES else data
        about = {"channel": channel, **place.parameters}
        returned = await self._node.invoking.invoke(hook, session, session, given, **about)
        return data if returned is None else as_payload(returned)[0]


def _headers(page: StreamPage) -> dict[str, str]:
    headers = {"Content-Type": page.type, "Stream-Next-Offset": page.next}
    if page.up_to_date:
        headers["Stream-Up-To-Date"] = "true"
    if page.closed:
        headers["Stream-Closed"] = "true"
    return headers
