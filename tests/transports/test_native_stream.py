"""Streams on the socket of their request: what goes to whom, in how many writes, and how they end."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast
from urllib.parse import quote

import pytest
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from freshet import Freshet, History, Refusal
from freshet.config import parse
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.errors import Disconnect
from freshet.model.frame import Batch, Frame, Handshake
from freshet.runtime.server import HttpBounds
from freshet.session.session import Session
from freshet.testing import ManualClock
from freshet.transports import native_stream
from freshet.transports.entrance import Entrance
from freshet.transports.http import BoundedHttp
from freshet.transports.native_stream import SessionStream
from freshet.transports.stream import LINES, MESSAGES, STREAM, AcceptedStream, Form
from tests.tools.patience import eventually
from tests.transports.calls import called, request
from tests.transports.sockets import Peer, joined
from tests.transports.test_entrance import Served

EVENTS = b"GET /channels/%b HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
COMMANDS = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"news"}}'
SSE = b"GET /connection/sse?cf_connect=%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % quote(COMMANDS).encode()
LINES_OF = b"POST /connection/http_stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
POSTED = LINES_OF % (len(COMMANDS), COMMANDS)
SUBSCRIBED = {EVENTS % b"news": b"event: subscribed", SSE: b'"id":2', POSTED: b'"id":2'}
WAYS = pytest.mark.parametrize("asked", list(SUBSCRIBED), ids=["channel", "sse", "http_stream"])


def application(**given: Any) -> Freshet:
    live = Freshet(dev=True, environment={}, **given)
    live.channel("*", publish="client", history=History(100, 300))
    return live


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    live = application()
    async with live.lifespan():
        yield live
    assert list(live._node.registry) == []


class Reader:
    """A client of a stream: the head of the response, then its chunks."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.head = b""
        self._came = b""
        self._read = b""

    async def _until(self, end: bytes) -> bytes:
        while end not in self._came:
            came = await self.peer.read()
            assert came, f"closed after {self._came!r}"
            self._came += came
        before, _, self._came = self._came.partition(end)
        return before

    async def opened(self, asked: bytes) -> None:
        await self.peer.write(asked)
        self.head = await self._until(b"\r\n\r\n")

    async def chunk(self) -> bytes:
        """The next one; empty: the last."""
        size = int(await self._until(b"\r\n"), 16)
        while len(self._came) < size + 2:
            came = await self.peer.read()
            assert came
            self._came += came
        data, self._came = self._came[:size], self._came[size + 2 :]
        return data

    async def until(self, text: bytes) -> bytes:
        """All up to the chunk that has it."""
        while text not in self._read:
            self._read += await self.chunk()
        read, self._read = self._read, b""
        return read


@asynccontextmanager
async def reading(served: Served, asked: bytes, way: bytes = b"") -> AsyncIterator[Reader]:
    """way: that of `asked`, if it is not just as there."""
    async with served.come() as peer:
        reader = Reader(peer)
        await reader.opened(asked)
        await reader.until(SUBSCRIBED.get(way or asked, b"\n"))
        yield reader


class Writes:
    """What is written past the transport, which is given to the kernel unless `takes` says how many bytes it takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[bytes] = []
        self.takes = 1 << 30
        self._write = os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, descriptor: int, data: bytes) -> int:
        if len(data) > 8:  # the event loop wakes itself up with less
            self.made.append(data)
        if not self.takes:
            raise BlockingIOError
        return self._write(descriptor, data[: self.takes])


# --------------------------------------------------------------------------------------------------------- what it gets


@WAYS
async def test_a_plain_request_for_a_stream_is_carried_without_asgi(live: Freshet, asked: bytes) -> None:
    served = Served(live)
    async with reading(served, asked) as reader:
        assert [type(each) for each in served.connections] == [SessionStream]
        for number in range(3):
            await live.publish("news", number)
            assert b"%d" % number in await reader.chunk()
    await eventually(lambda: not served.connections and not live._node.registry)
    assert served.long_way.got == []
    assert served.state.total_requests == 1


@WAYS
async def test_the_head_is_the_same_as_by_asgi_but_for_what_the_server_adds(live: Freshet, asked: bytes) -> None:
    method, target, _ = asked.split(b" ", 2)
    accept = {"accept": "text/event-stream"} if b"Accept" in asked else {}
    async with called(live, request(method.decode(), target.decode(), origin="http://localhost", **accept)) as call:
        call.body(COMMANDS if method == b"POST" else b"")
        status, headers = await call.head()
    served = Served(live)
    async with reading(served, asked.replace(b"Host:", b"Origin: http://localhost\r\nHost:")) as reader:
        first, *lines = reader.head.decode().split("\r\n")
    added = ["x-server: ours", "connection: close", "transfer-encoding: chunked"]
    assert (status, first) == (200, "HTTP/1.1 200 OK")
    assert sorted(lines) == sorted([f"{name}: {value}" for name, value in headers.items()] + added)


@WAYS
async def test_the_publications_of_a_turn_are_laid_into_the_stream_once_and_written_once_to_each(
    live: Freshet, asked: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(live)
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(reading(served, asked)) for _ in range(3)]
        writes = Writes(monkeypatch)
        for number in range(4):
            await live.publish("news", f"text {number}")
        for reader in readers:
            await reader.until(b"text 3")
    one, *others = writes.made
    assert one.count(b"text ") == 4
    assert len(others) == 2
    assert all(each is one for each in others)  # the very same bytes


async def test_what_several_channels_have_in_a_turn_is_one_write(
    live: Freshet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reading(Served(live), EVENTS % b"news?channel=more") as reader:
        await reader.until(b'"more"')
        writes = Writes(monkeypatch)
        await live.publish("news", "one")
        await live.publish("more", "two")
        assert b"one" in await reader.until(b"two")
    assert len(writes.made) == 1


@pytest.mark.parametrize("takes", [0, 1, 40])
async def test_what_the_kernel_does_not_take_goes_by_the_transport_and_in_order(
    live: Freshet, monkeypatch: pytest.MonkeyPatch, takes: int
) -> None:
    async with reading(Served(live), POSTED) as reader:
        writes = Writes(monkeypatch)
        writes.takes = takes
        for number in range(20):
            await live.publish("news", f"text {number}!")
            await asyncio.sleep(0)
        got = await reader.until(b"text 19!")
    places = [got.index(b"text %d!" % number) for number in range(20)]
    assert places == sorted(places)


async def test_what_has_no_descriptor_of_its_own_as_with_tls_goes_by_the_transport(
    live: Freshet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_stream, "descriptor", lambda transport: -1)
    async with reading(Served(live), POSTED) as reader:
        writes = Writes(monkeypatch)
        await live.publish("news", "one")
        assert b"one" in await reader.until(b"one")
    assert writes.made == []


def test_a_frame_is_laid_into_streams_of_each_form_once() -> None:
    wrapped: list[Frame] = []

    def wrap(frame: Frame) -> bytes:
        wrapped.append(frame)
        return b"<%b>" % frame.data

    one, two, form = Frame(b"1"), Frame(b"2"), Form(b"text/plain", wrap)
    both = Batch([one, two])
    assert form.lay(both) is form.lay(both)
    assert form.lay(both) == (b"<1><2>", b"6\r\n<1><2>\r\n")
    assert LINES.lay(both).body == b"1\n2\n"
    assert MESSAGES.lay(Frame(b"")).chunk == b""  # an empty chunk would be the end
    assert wrapped == [one, two]


# ---------------------------------------------------------------------------------------------------------- how it ends


async def test_a_session_that_ends_before_there_is_anything_says_why_as_its_form_does(live: Freshet) -> None:
    @live.on_connect
    def nobody(session: Session) -> None:
        raise Refusal.permission_denied("not you")

    for asked, status, text in ((EVENTS % b"news", 403, b"not you"), (POSTED, 200, b'"error"')):
        async with Served(live).come() as peer:
            await peer.write(asked)
            if status == 200:
                assert text in await peer.read()
                continue
            got, head, body = await peer.response()
            assert (got, text in body, b"connection: close" in head) == (status, True, True)


@WAYS
async def test_when_the_server_ends_a_stream_says_so_and_is_complete(live: Freshet, asked: bytes) -> None:
    served = Served(live)
    async with reading(served, asked) as reader:
        for each in list(served.connections):
            cast(SessionStream, each).shutdown()
        await reader.until(b"3001")
        assert await reader.chunk() == b""
        assert await reader.peer.ended()
    await eventually(lambda: not served.connections)


async def test_who_says_something_behind_a_stream_is_cut_but_not_for_an_empty_line(live: Freshet) -> None:
    async with reading(Served(live), POSTED) as reader:
        await reader.peer.write(b"\r\n")
        await live.publish("news", "one")
        assert b"one" in await reader.chunk()
        await reader.peer.write(POSTED)
        assert await reader.peer.ended()
    await eventually(lambda: not live._node.registry)


class Decides:
    """An application that answers with a stream when the test lets it."""

    def __init__(self, live: Freshet) -> None:
        self.may = asyncio.Event()
        self.session: Session = live._dispatcher.open(Centrifuge(), Handshake("/"))

    def accept(self, scope: Scope) -> bool:
        return False

    async def reply(self, scope: Scope, receive: Receive) -> None:
        await self.may.wait()
        scope["extensions"][STREAM](AcceptedStream(self.session, LINES, []))


async def test_who_goes_or_speaks_before_a_stream_begins_has_none(live: Freshet) -> None:
    for said in (POSTED, b"", b"\r\n"):
        served = Served(None)
        application = served.server.direct[""] = Decides(live)
        async with served.come() as peer:
            await peer.write(POSTED)
            await eventually(lambda served=served: bool(served.state.tasks))  # type: ignore[misc]
            if said:
                (entrance,) = served.connections
                await peer.write(said)
                await eventually(lambda entrance=entrance: bool(entrance._held))  # type: ignore[misc]
                application.may.set()
                await eventually(lambda served=served: not served.state.tasks)  # type: ignore[misc]
            if said == POSTED:
                assert await peer.ended()
        await eventually(lambda served=served: not served.connections)  # type: ignore[misc]
        application.may.set()
        await eventually(lambda application=application: application.session.ended is not None)  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------- who does not read


async def fill(live: Freshet, served: Served) -> SessionStream:
    """Publish until the transport takes no more."""
    (connection,) = served.connections
    stream = cast(SessionStream, connection)
    for _ in range(100):
        await live.publish("news", "x" * 50_000)
        await asyncio.sleep(0)
        if stream._paused:
            return stream
    raise AssertionError("the transport takes everything")


async def test_what_was_answered_before_and_is_not_read_yet_counts_too(live: Freshet) -> None:
    served, before = Served(live), b"x" * 60_000
    async with served.come() as peer:
        await eventually(lambda: served.connections)
        (entrance,) = served.connections
        transport = cast(Entrance, entrance)._transport
        transport.write(before)
        held = transport.get_write_buffer_size()
        assert held > 1
        await peer.write(POSTED)
        await eventually(lambda: served.connections != {entrance})
        (stream,) = served.connections
        assert cast(SessionStream, stream)._paused
        assert [*served.lobby._guests] == [stream]
        await asyncio.sleep(0)
        assert transport.get_write_buffer_size() == held
        reader = Reader(peer)
        await reader.opened(b"")
        assert reader.head.startswith(before + b"HTTP/1.1 200")
        await reader.until(SUBSCRIBED[POSTED])
        assert not served.lobby._guests


async def test_who_does_not_read_for_a_while_gets_all_of_it_in_order(live: Freshet) -> None:
    served = Served(live)
    async with reading(served, POSTED) as reader:
        stream = await fill(live, served)
        await live.publish("news", "the last")
        assert b"x" * 50_000 in await reader.until(b"the last")
        await eventually(lambda: stream.deadline() == float("inf"))
        assert stream not in served.lobby._guests


async def test_who_does_not_read_gets_all_of_it_at_the_end_too(live: Freshet) -> None:
    served = Served(live)
    async with reading(served, POSTED) as reader:
        stream = await fill(live, served)
        await live.publish("news", "the last")
        held = stream._transport.get_write_buffer_size()
        stream.shutdown()
        await eventually(lambda: stream._session.ended)
        assert stream._transport.get_write_buffer_size() <= held
        await reader.until(b"the last")
        assert b"3001" in await reader.until(b"3001")
        assert await reader.chunk() == b""


async def test_who_reads_too_slowly_for_what_comes_is_ended_as_slow() -> None:
    clock = ManualClock()
    config = parse({"limits": {"outbox": 100_000}, "timing": {"close_timeout": 5}})
    live = application(config=config, clock=clock)
    async with live.lifespan():
        served = Served(live)
        async with reading(served, POSTED):
            stream = await fill(live, served)
            for _ in range(3):
                await live.publish("news", "x" * 50_000)
                await asyncio.sleep(0)
            await eventually(lambda: stream._session.ended is not None)
            assert stream._session.ended is not None
            assert stream._session.ended.code == Disconnect.slow().code
            assert served.connections  # it may still read why
            await clock.advance(7)
            await eventually(lambda: not served.connections)


async def test_who_takes_nothing_of_a_stream_for_too_long_is_cut(live: Freshet) -> None:
    served = Served(live)
    served.server.http = HttpBounds(body_timeout=0.01)
    refused: list[str] = []
    served.server.refused = refused.append
    async with reading(served, POSTED):
        stream = await fill(live, served)
        await eventually(lambda: (stream.deadline() or 0) < asyncio.get_running_loop().time())
        served.lobby._sweep()
        await eventually(lambda: not served.connections)
    assert refused == ["http"]


async def test_who_does_not_read_makes_room_for_others(live: Freshet) -> None:
    served = Served(live, room=1)
    async with reading(served, POSTED):
        stream = await fill(live, served)
        assert stream in served.lobby._guests
        stream.evict()
        await eventually(lambda: not served.connections and not live._node.registry)


# --------------------------------------------------------------------------------------------------- by way of uvicorn


class Behind(Served):
    """A server whose requests all go by uvicorn, as those that come through a proxy do."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(None)
        config = uvicorn.Config(app, interface="asgi3", log_config=None, lifespan="off")
        config.load()
        self.made = lambda: BoundedHttp(config, self.state, {}, lobby=self.lobby, server=self.server)

    @asynccontextmanager
    async def come(self, deflate: bool = False) -> AsyncIterator[Peer]:
        async with joined(self.made(), deflate=deflate) as (_, peer):
            yield peer


@WAYS
async def test_a_stream_that_came_through_a_proxy_has_the_socket_too(live: Freshet, asked: bytes) -> None:
    served = Behind(live)
    forwarded = asked.replace(b"Host:", b"X-Forwarded-For: 192.0.2.1\r\nHost:")
    async with reading(served, forwarded, asked) as reader:
        assert [type(each) for each in served.connections] == [SessionStream]
        await eventually(lambda: not served.state.tasks)
        await live.publish("news", "one")
        await reader.until(b"one")
    await eventually(lambda: not served.connections and not live._node.registry)


def wrapped(app: ASGIApp) -> ASGIApp:
    """With something around it that looks at what is sent."""

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        async def look(message: Message) -> None:
            await send(message)

        await app(scope, receive, look)

    return around


@pytest.mark.parametrize("why", ["middleware", "HTTP/1.0", "HEAD", "more behind it"])
async def test_a_stream_that_cannot_have_the_socket_goes_by_asgi(live: Freshet, why: str) -> None:
    served = Behind(wrapped(live) if why == "middleware" else live)
    asked = EVENTS % b"news"
    if why == "HTTP/1.0":
        asked = asked.replace(b"HTTP/1.1", b"HTTP/1.0")
    elif why == "HEAD":
        asked = asked.replace(b"GET", b"HEAD")
    elif why == "more behind it":
        asked += b"GET /health/live HTTP/1.1\r\n"
    async with served.come() as peer:
        await peer.write(asked)
        head = await peer.head()
        assert head.startswith(b"HTTP/1.1 405" if why == "HEAD" else b"HTTP/1.1 200")
        assert [type(each) for each in served.connections] == [BoundedHttp]
    await eventually(lambda: not served.connections and not live._node.registry)
