"""Clients in the same process, without a network: those of an application's tests, and the application itself.

What `Freshet.test_client` gives takes the way of a real one: its token is checked, rules and hooks decide, and what it
gets is what the official clients get, encoded and decoded. Only the socket is missing. No wait is without an end: what
does not come in time raises `TimeoutError`, which says what was waited for and what came instead.
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from itertools import count
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from freshet.commands.dispatch import Dispatcher
from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.errors import Disconnect, NotRunning, Refusal
from freshet.model.commands import Command
from freshet.model.events import Event, Published
from freshet.model.frame import Frame, Handshake
from freshet.model.json_text import decode
from freshet.model.log import Position, Publication
from freshet.rules.hooks import to_json
from freshet.session.session import Session

TIMEOUT = 5.0 * float(os.environ.get("FRESHET_TEST_SCALE", "1"))  # seconds
TURNS = 20  # of the loop, in which what was set going comes to its end

T = TypeVar("T")


class Received(NamedTuple):
    """A publication as a client gets it. data: decoded JSON. offset: 0 without history. info: who published it."""

    channel: str
    data: Any
    offset: int
    tags: dict[str, str]
    info: dict[str, Any] | None


class SubscribeResult(NamedTuple):
    """What the server answered. recovered: None when the client did not ask for what it missed."""

    position: Position
    recovered: bool | None
    missed: list[Received]
    data: Any


class ClientEvent(NamedTuple):
    """Another event for a client. kind: join, leave, subscribe, unsubscribe or message."""

    kind: str
    channel: str
    data: dict[str, Any]


class Client:
    """One client of an application under test, connected until its block ends; see `Freshet.test_client`.

    id: given by the server. data: what the hook `on_connect` sent along.
    Every method raises `Refusal` when the server refuses, and `Disconnect` when it ended the session.
    """

    def __init__(
        self, dispatcher: Dispatcher, lease: "Lifespan", token: str, data: Any, headers: Mapping[str, str]
    ) -> None:
        self.id = ""
        self.data: Any = None
        self._dispatcher = dispatcher
        self._lease = lease
        self._request = {"token": token} | ({"data": data} if data is not None else {})
        self._headers = dict(headers)
        self._session: Session | None = None
        self._ended: Disconnect | None = None
        self._ids = count(1)
        self._replies: dict[int, dict[str, Any]] = {}
        self._publications: deque[Received] = deque()
        self._events: deque[ClientEvent] = deque()
        self._places: dict[str, Position | None] = {}  # where it stands; None: in a channel without a log
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._lease.take()
        try:
            await self.connect()
        except BaseException:
            await self._lease.give_back()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.disconnect()
        await self._lease.give_back()

    # ----------------------------------------------------------------------------------------------------- connection

    async def connect(self) -> None:
        """Connect, and subscribe again to all channels of before: `missed` publications wait to be received."""
        handshake = Handshake(path="/connection/websocket", headers=self._headers, client="testclient")
        self._ended = None
        self._replies.clear()
        self._session = self._dispatcher.open(Centrifuge(self._dispatcher.limits.message_size), handshake)
        self._session.outbox.attach(self._wake, "in_process")
        self._session.open()
        reply = await self._ask("connect", self._request)
        self.id, self.data = reply["client"], reply.get("data")
        for channel, wire in reply.get("subs", {}).items():
            self._events.append(ClientEvent("subscribe", channel, wire))
            self._entered(channel, wire)
        for channel, place in list(self._places.items()):
            if channel not in reply.get("subs", {}):
                self._publications += (await self.subscribe(channel, since=place)).missed

    async def disconnect(self) -> None:
        """Leave, as a page that is closed."""
        if self._session is not None and not self._session.ended:
            self._session.end(Disconnect.normal())
            await settle()

    async def reconnect(self) -> None:
        """Lose the connection, and connect again at once."""
        await self.disconnect()
        await self.connect()

    # ------------------------------------------------------------------------------------------------------- commands

    async def subscribe(
        self, channel: str, *, since: Position | None = None, token: str = "", data: Any = None
    ) -> SubscribeResult:
        """Subscribe. since: a position; the result has what was published after it."""
        request: dict[str, Any] = {"channel": channel, "token": token}
        if since is not None:
            request |= {"recover": True, "epoch": since.epoch, "offset": since.offset}
        if data is not None:
            request["data"] = data
        wire = await self._ask("subscribe", request)
        return self._entered(channel, wire)

    async def unsubscribe(self, channel: str) -> None:
        await self._ask("unsubscribe", {"channel": channel})
        self._places.pop(channel, None)

    async def publish(self, channel: str, data: Any) -> None:
        await self._ask("publish", {"channel": channel, "data": data})

    async def history(self, channel: str, *, since: Position | None = None, limit: int = -1) -> list[Received]:
        request: dict[str, Any] = {"channel": channel, "limit": limit}
        if since is not None:
            request["since"] = since._asdict()
        reply = await self._ask("history", request)
        return [_publication(channel, each) for each in reply["publications"]]

    async def presence(self, channel: str) -> dict[str, dict[str, Any]]:
        """Who is there, by client id."""
        found: dict[str, dict[str, Any]] = (await self._ask("presence", {"channel": channel}))["presence"]
        return found

    async def rpc(self, method: str, data: Any = None) -> Any:
        return (await self._ask("rpc", {"method": method, "data": data}))["data"]

    async def send(self, data: Any) -> None:
        """A message that wants no reply."""
        self._say({"send": {"data": data}})
        await settle()

    async def refresh(self, token: str) -> None:
        await self._ask("refresh", {"token": token})

    # ------------------------------------------------------------------------------------------------- what comes to it

    async def receive(self, channel: str = "", *, within: float = TIMEOUT) -> Received:
        """The next publication (in `channel`), within so many seconds."""
        what = f"a publication in {channel!r}" if channel else "a publication"
        return await self._until(lambda: _next(self._publications, "channel", channel), what, within)

    async def event(self, kind: str, *, within: float = TIMEOUT) -> ClientEvent:
        """The next event of a kind: join, leave, subscribe, unsubscribe or message."""
        return await self._until(lambda: _next(self._events, "kind", kind), f"the event {kind!r}", within)

    async def closed(self, *, within: float = TIMEOUT) -> Disconnect:
        """Why the server ended the session."""
        return await self._until(lambda: self._ended, "the end of the session", within)

    async def expect_nothing(self) -> None:
        """Raises AssertionError when something came that was not received yet, once all that runs came to rest."""
        await settle()
        if self._publications:
            raise AssertionError(f"expected nothing, got {self._publications[0]}")

    # ----------------------------------------------------------------------------------------------------- the wire

    def _say(self, command: dict[str, Any]) -> None:
        if self._session is None or self._ended:
            raise self._ended or Disconnect.normal()
        self._session.receive(Frame(to_json(command)))

    async def _ask(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        id = next(self._ids)
        self._say({"id": id, method: request})
        reply = await self._until(lambda: self._replies.pop(id, None), f"the answer to {method}", TIMEOUT)
        if "error" in reply:
            error = reply["error"]
            raise Refusal(error["code"], error["message"], temporary=error.get("temporary", False))
        answer: dict[str, Any] = reply[method]
        return answer

    def _wake(self) -> None:
        """What the outbox calls."""
        session = self._session
        assert session is not None
        for frame in session.outbox.take():
            for line in frame.data.split(b"\n"):
                self._received(decode(line))
        if session.outbox.closed and not session.ended:
            self._ended = session.outbox.closed
            session.end(self._ended)
        self._news.set()

    def _received(self, reply: dict[str, Any]) -> None:
        if not reply:
            self._say({})  # a heartbeat, and its answer
        elif "push" not in reply:
            self._replies[reply["id"]] = reply
        else:
            push = dict(reply["push"])
            channel = push.pop("channel", "")
            kind, data = push.popitem()
            if kind == "pub":
                publication = _publication(channel, data)
                self._publications.append(publication)
                place = self._places.get(channel)
                if place and publication.offset:
                    self._places[channel] = Position(place.epoch, publication.offset)
                return
            if kind == "subscribe":
                self._entered(channel, data)
            elif kind == "unsubscribe":
                self._places.pop(channel, None)
            self._events.append(ClientEvent(kind, channel, data))

    def _entered(self, channel: str, wire: dict[str, Any]) -> SubscribeResult:
        position = Position(wire.get("epoch", ""), wire.get("offset", 0))
        self._places[channel] = position if wire.get("recoverable") else None
        missed = [_publication(channel, each) for each in wire.get("publications", [])]
        recovered = wire.get("recovered", False) if "was_recovering" in wire else None
        return SubscribeResult(position, recovered, missed, wire.get("data"))

    async def _until(self, find: Callable[[], T | None], what: str, within: float) -> T:
        """What `find` finds, as soon as it does. Raises TimeoutError, and `Disconnect` when the session ends before."""
        end = asyncio.get_running_loop().time() + within
        while (found := find()) is None:
            if self._ended:
                raise self._ended
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), end - asyncio.get_running_loop().time())
            except TimeoutError:
                came = [*self._publications, *self._events]
                instead = f"what came instead: {came}" if came else "nothing came"
                raise TimeoutError(f"waited {within:g} s for {what}; {instead}") from None
        return found


class Lifespan:
    """An application runs as long as one of its test clients is there, unless it runs anyway.

    lifespan: runs it. runs: whether somebody else does.
    """

    def __init__(self, lifespan: Callable[[], AbstractAsyncContextManager[None]], runs: Callable[[], bool]) -> None:
        self._lifespan = lifespan
        self._runs = runs
        self._taken = 0
        self._ours: AbstractAsyncContextManager[None] | None = None

    async def take(self) -> None:
        self._taken += 1
        if self._ours is None and not self._runs():
            self._ours = self._lifespan()
            await self._ours.__aenter__()

    async def give_back(self) -> None:
        self._taken -= 1
        if self._taken == 0 and self._ours is not None:
            ours, self._ours = self._ours, None
            await ours.__aexit__(None, None, None)


def _publication(channel: str, wire: dict[str, Any]) -> Received:
    return Received(channel, wire.get("data"), wire.get("offset", 0), wire.get("tags", {}), wire.get("info"))


def _next(waiting: deque[Any], name: str, value: str) -> Any:
    """The first that fits, taken out."""
    for index, each in enumerate(waiting):
        if not value or getattr(each, name) == value:
            del waiting[index]
            return each
    return None


async def settle() -> None:
    """Let what was set going come to its end."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


class PublicationFrame(Frame):
    """A publication as it is."""

    __slots__ = ("publication",)

    def __init__(self, publication: Publication) -> None:
        super().__init__(publication.data)
        self.publication = publication


class Listening(Dialect):
    """Nothing is encoded, and there is no client to prove that it is there."""

    name = "listening"
    has_heartbeat = False
    has_presence = False

    def receive(self, frame: Frame) -> list[Command]:
        raise Disconnect.bad_request("it only listens")

    def encode(self, event: Event) -> Frame | None:
        return PublicationFrame(event.publication) if type(event) is Published else None


class Subscriber:
    """The application itself, in a channel. Belongs to the node's loop."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._news = asyncio.Event()
        session.outbox.attach(self._news.set)

    @classmethod
    async def of(cls, dispatcher: Dispatcher, channel: str) -> Self:
        """Raises as `Freshet.listen`."""
        session = dispatcher.open(Listening(), Handshake("/"))
        session.enter()
        subscriber = cls(session)
        try:
            await dispatcher.join(session, channel)
        except BaseException:
            await subscriber.end()
            raise
        return subscriber

    async def receive(self) -> list[Publication]:
        """What came, once something has. Raises `Disconnect`."""
        while not (frames := self._session.outbox.take()):
            if self._session.outbox.closed:
                raise self._session.outbox.closed
            self._news.clear()
            await self._news.wait()
        return [frame.publication for frame in frames if isinstance(frame, PublicationFrame)]

    async def end(self) -> None:
        self._session.end(Disconnect.normal())


async def listen(dispatcher: Dispatcher, channel: str) -> AsyncGenerator[Publication, None]:
    """See `Freshet.listen`."""
    run = dispatcher.portal.run
    subscriber = await run(Subscriber.of(dispatcher, channel))
    try:
        while True:
            try:
                publications = await run(subscriber.receive())
            except NotRunning:
                raise Disconnect.shutdown() from None
            for publication in publications:
                yield publication
    finally:
        with suppress(NotRunning):  # its session ended with the node
            await run(subscriber.end())
