"""An MCP server (PyPI `mcp`) on several workers and nodes, over Freshet's engine.

    live = Freshet()
    events = SessionEvents(live)
    server = MCPServer("weather", subscriptions=ChangesBus(live))
    app = events.bind(server.streamable_http_app(event_store=events))

`ChangesBus`: what one worker says has changed, the clients of all workers hear (`subscriptions/listen`, in the protocol
of 2026). `SessionEvents`: a client of a session (protocol of 2025) that was cut off gets what it missed, on the worker
that has the session. It moves no session: those live in the process of `mcp`, and any other answers 404.
"""

import asyncio
import logging
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

import msgspec
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp.types import JSONRPCMessage, jsonrpc_message_adapter

from freshet import Disconnect, Freshet, FreshetError, History, Position

log = logging.getLogger("freshet.mcp")

CHANGES = "mcp:changes"
SESSIONS = "mcp:session:"
SESSIONS_KNOWN = 10_000  # of one process, as many as `mcp` has; beyond, those of which nothing was heard for longest
KEPT = 64 * 1024 * 1024  # bytes
PAUSE = 1.0  # seconds before a bus that was cut off listens again

_LISTS: dict[str, type[ToolsListChanged | PromptsListChanged | ResourcesListChanged]] = {
    each.__name__: each for each in (ToolsListChanged, PromptsListChanged, ResourcesListChanged)
}

Listener = Callable[[ServerEvent], None]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]


class ChangesBus:
    """A `SubscriptionBus` of `mcp`. channel: gets a rule for the server alone.

    Raises EngineUnavailable from `publish` when the other workers could not be told.
    """

    def __init__(self, live: Freshet, *, channel: str = CHANGES) -> None:
        live.channel(channel, subscribe="nobody", read="nobody")
        self._live = live
        self._channel = channel
        self._listeners: dict[object, Listener] = {}
        self._task: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()

    async def publish(self, event: ServerEvent) -> None:
        uri = event.uri if isinstance(event, ResourceUpdated) else None
        await self._live.publish(self._channel, {"event": type(event).__name__, "uri": uri})

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        token = object()
        self._listeners[token] = listener
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._listen(), name="mcp: changes")

        def unsubscribe() -> None:
            self._listeners.pop(token, None)
            if not self._listeners and self._task is not None:
                self._task.cancel()
                self._task = None

        return unsubscribe

    async def _listen(self) -> None:
        while True:
            try:
                async for publication in self._live.listen(self._channel):
                    self._heard(publication.data)
            except Disconnect as why:
                log.warning(
                    "mcp: %s was left (%s); clients may have missed a change, they are told to look", CHANGES, why
                )
                for changed in _LISTS.values():
                    self._tell(changed())
            except FreshetError as why:
                log.warning("mcp: changes cannot be heard (%s), trying again", why)
            await asyncio.sleep(PAUSE)

    def _heard(self, data: bytes) -> None:
        it = msgspec.json.decode(data)
        self._tell(_LISTS[it["event"]]() if it["event"] in _LISTS else ResourceUpdated(it["uri"]))

    def _tell(self, event: ServerEvent) -> None:
        for listener in list(self._listeners.values()):
            try:
                listener(event)
            except Exception:
                log.exception("mcp: a listener failed, the others go on")


class _Session:
    """What a request belongs to: a session of `mcp`, which has no id before the answer to its first."""

    __slots__ = ("key",)

    def __init__(self) -> None:
        self.key = secrets.token_urlsafe(18)


_current: ContextVar[_Session | None] = ContextVar("freshet_mcp_session", default=None)


class SessionEvents(EventStore):
    """An `EventStore` of `mcp`, whose events are each session's own: see `bind`.

    size, ttl: how much of a session is kept, and how long. kept: bytes, of all sessions together, so that who opens
    ever new ones does not push out what other channels keep. What is beyond is lost to a client that comes back, which
    then gets nothing: it has to initialise anew.
    """

    def __init__(self, live: Freshet, *, size: int = 1000, ttl: float = 3600, kept: int = KEPT) -> None:
        live.channel(SESSIONS + "*", subscribe="nobody", read="nobody", history=History(size, ttl, kept))
        self._live = live
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def bind(self, app: App) -> App:
        """The application that `streamable_http_app` makes, with each request bound to its session."""

        async def bound(scope: Any, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            asked = dict(scope["headers"]).get(b"mcp-session-id", b"").decode("latin-1")
            session = self._sessions.get(asked) or _Session()

            async def sent(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    # Whose session it is, the application decides: what it refuses is no sign of life, and no end.
                    done = message["status"] < 300
                    given = dict(message.get("headers", ())).get(b"mcp-session-id")
                    if done and asked and scope["method"] == "DELETE":
                        await self._forget(asked)
                    elif done and asked in self._sessions:
                        self._sessions.move_to_end(asked)
                    elif given and not asked:
                        self._know(given.decode("latin-1"), session)
                await send(message)

            token = _current.set(session)
            try:
                await app(scope, receive, sent)
            finally:
                _current.reset(token)

        return bound

    def _know(self, id: str, session: _Session) -> None:
        self._sessions[id] = session
        while len(self._sessions) > SESSIONS_KNOWN:
            self._sessions.popitem(last=False)

    async def _forget(self, id: str) -> None:
        session = self._sessions.pop(id, None)
        if session is not None:
            try:
                await self._live.remove_history(SESSIONS + session.key)
            except FreshetError as why:
                log.warning("mcp: a session ended, and what is kept of it stays until its time is over (%s)", why)

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        session = _session()
        channel = SESSIONS + session.key
        if message is None:  # a place to come back to, and nothing to be replayed
            position = (await self._live.history(channel, limit=0)).position
        else:
            wire = jsonrpc_message_adapter.dump_python(message, mode="json", by_alias=True, exclude_none=True)
            position = await self._live.publish(channel, {"stream": stream_id, "message": wire})
        return _event_id(session.key, position, stream_id)

    async def replay_events_after(
        self, last_event_id: str, send_callback: Callable[[EventMessage], Awaitable[None]]
    ) -> str | None:
        session = _session()
        place = _place(last_event_id, session.key)
        if place is None:
            return None
        position, stream_id = place
        stream = await self._live.history(SESSIONS + session.key, since=position)
        if not stream.follows(position):
            log.warning("mcp: a client came back for more than its session keeps: see `size` and `ttl`")
            return None
        for publication in stream.publications:
            it = msgspec.json.decode(publication.data)
            if it["stream"] == stream_id:
                message = jsonrpc_message_adapter.validate_python(it["message"], by_name=False)
                at = Position(position.epoch, publication.offset)
                await send_callback(EventMessage(message, _event_id(session.key, at, stream_id)))
        return stream_id


def _session() -> _Session:
    session = _current.get()
    if session is None:
        raise RuntimeError("events of no session: serve `events.bind(server.streamable_http_app(event_store=events))`")
    return session


def _event_id(key: str, position: Position, stream: str) -> str:
    name = urlsafe_b64encode(stream.encode()).decode()
    return f"{key}.{position.epoch}.{position.offset}.{name}"


def _place(event_id: str, key: str) -> tuple[Position, str] | None:
    """The place and the stream of an event of this session; None: it is none."""
    try:
        whose, epoch, offset, name = event_id.split(".")
        if not secrets.compare_digest(whose.encode(), key.encode()):
            return None
        return Position(epoch, int(offset)), urlsafe_b64decode(name).decode()
    except ValueError:
        return None
