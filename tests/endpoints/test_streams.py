"""The Centrifugal protocol over HTTP, called in this process: streams, what is posted to them, and other nodes."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
from centrifuge.protocol.client_pb2 import Command, EmulationRequest

from freshet import Freshet
from freshet.config import Config, parse
from freshet.endpoints import streams
from freshet.engines.base import Receiver
from freshet.engines.memory import MemoryEngine
from freshet.errors import EngineUnavailable
from freshet.model.frame import Frame
from freshet.runtime.clock import Clock
from freshet.session.session import Session
from freshet.wiring import engines
from tests.dialects.centrifuge import official
from tests.tools.patience import eventually
from tests.transports.calls import Call, called, request

CONNECT = b'{"id":1,"connect":{}}'
LIMITS = {"limits": {"backlog": 2, "message_size": 1024, "frame_size": 2000}, "tokens": {"anonymous": True}}
LONG = json.dumps({"node": "a", "session": "b", "data": "x" * 2001}).encode()
BINARY = "application/octet-stream"


class Pair(MemoryEngine):
    """A log of its own, but messages reach the other nodes of this process. away: they cannot be sent."""

    shared = True
    nodes: ClassVar[dict[str, Receiver]] = {}
    away = False

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config.timing.presence_ttl, clock)

    async def start(self, node: str, receiver: Receiver) -> None:
        await super().start(node, receiver)
        self.nodes[node] = receiver

    async def tell(self, node: str | None, message: bytes) -> None:
        if self.away:
            raise EngineUnavailable("the engine is away")
        for name, receiver in self.nodes.items():
            if node in (name, None):
                asyncio.get_running_loop().call_soon(receiver.notify, message)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Pair, "nodes", {})
    monkeypatch.setitem(engines.ENGINES, "memory", Pair)
    yield
    monkeypatch.undo()


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    async with running() as live:
        yield live


@asynccontextmanager
async def running() -> AsyncIterator[Freshet]:
    live = Freshet(config=parse(LIMITS), environment={})
    live.channel("*", publish="client")
    async with live.lifespan():
        yield live


class Stream:
    """A stream of JSON lines that is open. address: what is posted to it has to name."""

    def __init__(self, call: Call, connected: dict[str, Any]) -> None:
        self.call = call
        self.address = {name: connected[name] for name in ("node", "session")}

        self._lines: list[bytes] = []

    async def next(self) -> dict[str, Any]:
        while not self._lines:
            self._lines = (await self.call.chunk()).splitlines()
        reply: dict[str, Any] = json.loads(self._lines.pop(0))
        return reply


@asynccontextmanager
async def opened(live: Freshet) -> AsyncIterator[Stream]:
    async with called(live, request("POST", "/connection/http_stream")) as call:
        call.body(CONNECT)
        yield Stream(call, json.loads(await call.chunk())["connect"])


async def post(live: Freshet, body: bytes, **headers: str) -> tuple[int, str]:
    """The answer of `/emulation`."""
    async with called(live, request("POST", "/emulation", **headers)) as call:
        call.body(body)
        status, _, text = await call.response()
        return status, text.decode()


def said(stream: Stream, **command: Any) -> bytes:
    return json.dumps({**stream.address, "data": json.dumps(command)}).encode()


# -------------------------------------------------------------------------------------------------------------- opening


async def test_a_post_opens_a_stream_of_lines(live: Freshet) -> None:
    async with called(live, request("POST", "/connection/http_stream")) as call:
        call.body(CONNECT[:9], more_body=True)
        call.body(CONNECT[9:] + b'\n{"id":2,"ping":{}}')
        assert (await call.head())[1]["content-type"] == "application/json"
        text = b""
        while text.count(b"\n") < 2:
            text += await call.chunk()
        assert [json.loads(line)["id"] for line in text.splitlines()] == [1, 2]


async def test_a_get_opens_a_stream_of_events_with_the_commands_in_its_url(live: Freshet) -> None:
    scope = request("GET", f"/connection/sse?cf_connect={quote(CONNECT)}", origin="http://localhost")
    async with called(live, scope) as call:
        _, headers = await call.head()
        assert headers["content-type"] == "text/event-stream"
        assert headers["access-control-allow-origin"] == "http://localhost"
        event = await call.chunk()
        assert event.startswith(b':\ndata: {"id":1,"connect":')
        assert event.endswith(b"\n\n")


async def test_a_stream_of_protobuf_is_opened_and_posted_to(live: Freshet) -> None:
    async with called(live, request("POST", "/connection/http_stream", content_type=BINARY)) as call:
        call.body(official.framed(Command(id=1, connect={})))
        assert (await call.head())[1]["content-type"] == BINARY
        (reply,) = official.messages(Frame(await call.chunk(), binary=True))
        connected = reply.connect
        data = official.framed(Command(id=2, ping={}))
        body = EmulationRequest(node=connected.node, session=connected.session, data=data).SerializeToString()
        assert (await post(live, body, content_type=BINARY))[0] == 204
        (reply,) = official.messages(Frame(await call.chunk(), binary=True))
        assert reply.id == 2


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "text"),
    [
        ("POST", "/connection/http_stream", b"", 400, "Expected a connect command"),
        ("GET", "/connection/sse", b"", 400, "Expected a connect command"),
        ("POST", "/connection/http_stream", b"x" * 2001, 413, "At most 2000 bytes, see limits.frame_size"),
        ("GET", f"/connection/sse?cf_connect={'x' * 2001}", b"", 413, "At most 2000 bytes, see limits.frame_size"),
        ("POST", "/emulation", b"x" * 7025, 413, "At most 2000 bytes, see limits.frame_size"),
        ("POST", "/emulation", LONG, 413, "At most 2000 bytes, see limits.frame_size"),
        ("POST", "/emulation", b'{"node": "a", "session": 1, "data": ""}', 400, "Expected node, session and data"),
        ("POST", "/emulation", b'{"x":' + b"[" * 2000, 400, "Expected node, session and data"),
    ],
)
async def test_what_cannot_be_is_refused_before_there_is_a_session(
    live: Freshet, method: str, target: str, body: bytes, status: int, text: str
) -> None:
    async with called(live, request(method, target, origin="http://localhost")) as call:
        call.body(body)
        found, headers, answer = await call.response()
        assert (found, text in answer.decode()) == (status, True)
        assert headers["access-control-allow-origin"] == "http://localhost"
    assert len(live._node.registry) == 0


@pytest.mark.parametrize("size", [2000, 2001])
async def test_a_body_may_be_as_large_as_a_frame(live: Freshet, size: int) -> None:
    async with called(live, request("POST", "/connection/http_stream")) as call:
        call.body(CONNECT + b" " * (size - len(CONNECT)))
        assert (await call.head())[0] == (200 if size == 2000 else 413)


async def test_what_is_malformed_is_said_in_the_stream(live: Freshet) -> None:
    async with called(live, request("POST", "/connection/http_stream")) as call:
        call.body(b"{")
        status, _, body = await call.response()
        assert (status, json.loads(body)["push"]["disconnect"]["code"]) == (200, 3501)


# -------------------------------------------------------------------------------------------------------------- posting


async def test_what_is_posted_is_answered_in_the_stream(live: Freshet) -> None:
    async with opened(live) as stream:
        assert await post(live, said(stream, id=2, subscribe={"channel": "a"})) == (204, "")
        assert "subscribe" in await stream.next()
        assert await post(live, said(stream, id=3, publish={"channel": "a", "data": 1})) == (204, "")
        replies = [await stream.next(), await stream.next()]
        assert {"id" in reply for reply in replies} == {True, False}


@pytest.mark.parametrize("wrong", [{"session": "guessed"}, {"node": "another"}, {"session": ""}, {"node": ""}])
async def test_a_session_that_is_not_here_is_over(live: Freshet, wrong: dict[str, str]) -> None:
    async with opened(live) as stream:
        body = json.dumps({**stream.address, "data": "{}", **wrong}).encode()
        status, text = await post(live, body)
        assert (status, "No such session" in text) == (404, True)


async def test_a_session_is_not_found_by_the_id_that_others_see(live: Freshet) -> None:
    async with opened(live) as stream:
        (session,) = live._node.registry
        body = json.dumps({"node": live._node.id, "session": session.id, "data": "{}"}).encode()
        assert (await post(live, body))[0] == 404
        assert stream.address["session"] != session.id


async def test_a_stream_whose_client_left_takes_nothing_more(live: Freshet) -> None:
    async with opened(live) as stream:
        stream.call.leave()
        await stream.call.result()
        assert (await post(live, said(stream, id=2, ping={})))[0] == 404


@asynccontextmanager
async def busy(live: Freshet) -> AsyncIterator[tuple[Stream, asyncio.Event]]:
    """A stream whose backlog is full until the event is set."""
    gate = asyncio.Event()

    @live.rpc("wait")
    async def wait(session: Session, data: Any) -> None:
        await gate.wait()

    async with opened(live) as stream:
        (session,) = live._node.registry
        for number in range(2, 5):
            assert (await post(live, said(stream, id=number, rpc={"method": "wait"})))[0] == 204
            await asyncio.sleep(0)
        await eventually(lambda: session.backlog_full)
        try:
            yield stream, gate
        finally:
            gate.set()


async def test_what_is_posted_while_the_backlog_is_full_waits_for_room(live: Freshet) -> None:
    async with busy(live) as (stream, gate):
        waiting = asyncio.create_task(post(live, said(stream, id=9, ping={})))
        await eventually(lambda: _waiting(live))
        assert not waiting.done()
        gate.set()
        assert (await waiting)[0] == 204
        assert [(await stream.next())["id"] for _ in range(4)] == [2, 3, 4, 9]
        assert not _waiting(live)


async def test_what_finds_no_room_in_time_is_to_come_again(live: Freshet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "TIMEOUT", 0.1)
    async with busy(live) as (stream, _):
        status, text = await post(live, said(stream, id=9, ping={}))
        assert (status, "try again" in text) == (429, True)
        assert not _waiting(live)


async def test_of_many_that_wait_for_one_client_the_next_is_refused_at_once(
    live: Freshet,
) -> None:
    async with busy(live) as (stream, gate), AsyncExitStack() as others:
        third = live.config.limits.frame.size // 3
        large = said(stream, id=9, rpc={"method": "x" * (third - 40)})
        waiting = [asyncio.create_task(post(live, large)) for _ in range(3)]
        await eventually(lambda: sum(_waiting(live).values()) > third * 3 - 60)
        assert (await post(live, large))[0] == 429
        second = await others.enter_async_context(opened(live))
        assert (await post(live, said(second, id=2, ping={})))[0] == 204
        gate.set()
        assert [status for status, _ in await asyncio.gather(*waiting)] == [204] * 3


def _waiting(live: Freshet) -> dict[Session, int]:
    """How many bytes of requests wait for room, by session."""
    handle: Any = live._node.bus.handlers[streams.POST]
    waiting: dict[Session, int] = handle.__self__._waiting
    return waiting


# --------------------------------------------------------------------------------------------------------- other nodes


@pytest.mark.usefixtures("shared")
async def test_a_session_of_another_node_is_asked_over_the_bus() -> None:
    async with running() as one, running() as two, opened(one) as stream:
        assert stream.address["node"] == one._node.id != two._node.id
        assert await post(two, said(stream, id=2, ping={})) == (204, "")
        assert (await stream.next())["id"] == 2
        unknown = json.dumps({**stream.address, "session": "guessed", "data": "{}"}).encode()
        assert (await post(two, unknown))[0] == 404


@pytest.mark.usefixtures("shared")
async def test_many_commands_for_another_node_are_passed_on_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PORTION", 100)
    sizes: list[int] = []
    tell = Pair.tell

    async def told(self: Pair, node: str | None, message: bytes) -> None:
        sizes.append(len(message))
        await tell(self, node, message)

    monkeypatch.setattr(Pair, "tell", told)
    async with running() as one, running() as two, opened(one) as stream:
        pings = "\n".join(json.dumps({"id": number, "ping": {}}) for number in range(2, 60))
        body = json.dumps({**stream.address, "data": pings}).encode()
        sizes.clear()
        assert (len(pings) > 1000, await post(two, body)) == (True, (204, ""))
        assert [(await stream.next())["id"] for _ in range(2, 60)] == list(range(2, 60))
        assert max(sizes) < 300


@pytest.mark.usefixtures("shared")
async def test_a_full_backlog_on_another_node_is_a_429_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "TIMEOUT", 0.1)
    async with running() as one, running() as two, busy(one) as (stream, _):
        assert (await post(two, said(stream, id=9, ping={})))[0] == 429


@pytest.mark.usefixtures("shared")
async def test_a_node_that_cannot_be_reached_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as one, running() as two, opened(one) as stream:
        monkeypatch.setattr(Pair, "away", True)
        status, text = await post(two, said(stream, id=2, ping={}))
        assert (status, "the engine is away" in text) == (503, True)
        monkeypatch.setattr(Pair, "away", False)
        assert (await post(two, said(stream, id=2, ping={})))[0] == 204


@pytest.mark.parametrize("path", ["/connection/http_stream", "/connection/sse"])
async def test_what_opens_a_stream_is_utf_8_as_a_text_frame_is(path: str) -> None:
    """What it publishes would end the connection of every subscriber whose protocol is text."""
    live = Freshet(dev=True, environment={})
    commands = CONNECT + b'\n{"id":2,"publish":{"channel":"a","data":"\xff"}}'
    async with live.lifespan(), called(live, request("POST", path)) as call:
        call.body(commands)
        status, _, body = await call.response()
        assert (status, b"3501" in body) == (200, True)
        assert not (await live.history("a")).publications


async def test_a_request_that_is_complete_only_when_the_server_ends_opens_nothing_that_would_stay() -> None:
    live = Freshet(dev=True, environment={})
    async with live.lifespan(), called(live, request("POST", "/connection/http_stream")) as call:
        call.body(CONNECT[:9], more_body=True)
        await eventually(call.asked.empty)
        await live.drain()
        call.body(CONNECT[9:])
        _, _, body = await call.response()
        assert b'"disconnect":{"code":3001' in body
        await call.result()
        assert len(live._node.registry) == 0
