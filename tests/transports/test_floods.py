"""Clients that send as much as they can: what each of them costs in a turn, and that the others have theirs."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest

from freshet import Freshet, Session
from freshet.config import parse
from freshet.config.limits import RATES
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.model.frame import Frame, Handshake
from freshet.runtime import rates
from freshet.runtime.fair_queue import LEAST, FairQueue
from freshet.runtime.rates import Meter
from freshet.runtime.server import SERVER, RunningServer
from freshet.session.outbox import AT_ONCE
from freshet.testing import ManualClock
from freshet.transports import native
from freshet.transports.native import SessionSocket
from freshet.websocket.deflate import compress
from freshet.websocket.frames import TAKEN, CloseFrame, Opcode, PongFrame
from tests.tools.patience import eventually
from tests.transports.hosted import echo, hosted
from tests.transports.scene import Scene, on_each_loop
from tests.transports.sockets import Peer, joined
from tests.transports.test_asgi import accepted, over_asgi
from tests.websocket.peer import masked

CONFIG = {
    "tokens": {"anonymous": True},
    "timing": {"close_timeout": 5, "connect_timeout": 60, "ping_interval": 3600},
    "rates": {name: {"rate": 0, "burst": 0} for name in RATES},
}
SLOW = {**CONFIG, "rates": {"frames": {"rate": 10, "burst": 100}}}
CONNECT = b'{"id": 1, "connect": {}}'
FLOODS = {
    "pings": masked(Opcode.PING, b"x"),
    "empty pings": masked(Opcode.PING),
    "pongs": masked(Opcode.PONG),
    "{}": masked(Opcode.TEXT, b"{}"),
    "lines of {}": masked(Opcode.TEXT, b"\n".join([b"{}"] * 1000)),
    "short fragments": masked(Opcode.TEXT, b"{", fin=False) + masked(Opcode.CONTINUATION, b"}"),
    "empty fragments": masked(Opcode.TEXT, b"{", fin=False)
    + masked(Opcode.CONTINUATION, fin=False) * 100
    + masked(Opcode.CONTINUATION, b"}"),
}


class Silent:
    """A transport to which nothing is written."""

    def get_extra_info(self, name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **options: None


@asynccontextmanager
async def opened(config: Any = CONFIG, *, deflate: bool = False) -> AsyncIterator[tuple[Scene, Peer]]:
    clock = ManualClock()
    live = Freshet(config=parse(config), environment={}, clock=clock)
    async with live.lifespan(), joined(asyncio.Protocol(), deflate=deflate) as (transport, peer):
        yield Scene(live, clock, transport, deflate), peer


async def connected(scene: Scene, peer: Peer) -> None:
    await peer.send(CONNECT)
    await peer.next()
    await eventually(lambda: not scene.session.busy)


def held(socket: SessionSocket) -> bytes:
    """What it has received, and not looked at yet."""
    return socket._decoder.held if socket._decoder is not None else b""


# ------------------------------------------------------------------------------------------ what one costs in a turn


@on_each_loop
async def test_of_the_pings_of_a_turn_only_the_most_recent_is_answered() -> None:
    async with opened() as (scene, _):
        scene.socket.data_received(b"".join(masked(Opcode.PING, b"%d" % number) for number in range(10)))
        assert scene.transport.writes == [b"\x8a\x019"]


@pytest.mark.parametrize("authenticated", [False, True])
@pytest.mark.parametrize("flood", FLOODS)
@on_each_loop
async def test_a_flood_is_dealt_with_a_portion_a_turn_and_nobody_waits_behind_it(
    flood: str, authenticated: bool
) -> None:
    count, frames = (
        (20, 20) if flood == "lines of {}" else (20_000, 20_000) if flood != "empty fragments" else (200, 20_000)
    )
    async with opened() as (scene, peer):
        if authenticated:
            await connected(scene, peer)
        scene.socket.data_received(FLOODS[flood] * count)
        turns = 0
        while held(scene.socket) or scene.session.busy:
            assert not scene.transport.is_reading()
            turns += 1
            await asyncio.sleep(0)
        assert turns >= frames // native.AT_ONCE
        assert len(scene.transport.writes) <= turns + 2
        assert scene.outbox.closed is None
        await eventually(scene.transport.is_reading)


@on_each_loop
async def test_every_frame_of_a_flood_counts_and_in_order() -> None:
    async with opened() as (scene, peer):
        got: list[int] = []

        @scene.live.on_message
        async def message(session: Session, data: int) -> None:
            got.append(data)

        await connected(scene, peer)
        frames = [masked(Opcode.TEXT, b'{"send": {"data": %d}}' % number) for number in range(1000)]
        data = b"".join(frames)
        scene.socket.data_received(data[:7001])
        scene.socket.data_received(data[7001:])  # what comes though reading is paused stays behind
        await eventually(lambda: got == list(range(1000)))
        await eventually(scene.transport.is_reading)


@on_each_loop
async def test_compressed_messages_become_so_many_bytes_a_turn_and_no_more() -> None:
    async with opened(deflate=True) as (scene, _):
        bomb = masked(Opcode.TEXT, compress(b"{}" + b"\n" * 300_000 + b"{}"), rsv1=True)
        scene.socket.data_received(bomb * 40)
        assert len(bomb) < 10_000
        turns = 0
        while held(scene.socket) or scene.session.busy:
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 39


@on_each_loop
async def test_of_large_frames_so_many_bytes_are_looked_at_in_a_turn_and_no_more() -> None:
    async with opened() as (scene, peer):

        @scene.live.on_message
        async def message(session: Session, data: str) -> None:
            pass

        await connected(scene, peer)
        scene.session.host.counts.received = 0
        frame = masked(Opcode.TEXT, b'{"send": {"data": "' + b"x" * 10_000 + b'"}}')
        scene.socket.data_received(frame * 60)
        before = scene.session.host.counts.received
        while held(scene.socket):
            await asyncio.sleep(0)
            assert scene.session.host.counts.received - before <= TAKEN // len(frame) + 1
            before = scene.session.host.counts.received
        assert before == 60


@pytest.mark.parametrize("deflate", [False, True])
@on_each_loop
async def test_of_many_who_send_much_at_once_each_waits_until_there_is_time(deflate: bool) -> None:
    async with opened(deflate=deflate) as (scene, _):
        turn, received = scene.outbox.turn, []
        turn.fair_queue = FairQueue(now=count(step=LEAST).__next__)  # each look at the clock takes all that there is
        scenes = [scene, *(Scene(scene.live, scene.clock, Silent(), deflate) for _ in range(9))]  # type: ignore[arg-type]
        text = b"{}" + b"\n" * 300_000 + b"{}"
        plain = masked(Opcode.TEXT, b'{"x": "' + b"x" * 60_000 + b'"}')
        data = masked(Opcode.TEXT, compress(text), rsv1=True) if deflate else plain
        for each in scenes:
            each.socket.data_received(data)
        waiting = sum(bool(held(each.socket)) for each in scenes)
        assert waiting >= 8
        while waiting:
            await asyncio.sleep(0)
            received.append(waiting - sum(bool(held(each.socket)) for each in scenes))
            waiting -= received[-1]
        assert max(received) <= 3


@on_each_loop
async def test_who_goes_on_sending_though_it_was_told_the_end_is_not_read_any_more() -> None:
    async with opened() as (scene, peer):
        await connected(scene, peer)
        await scene.session.disconnect()
        assert (await peer.next()).code == 3503  # type: ignore[union-attr]
        scene.socket.data_received(FLOODS["pings"] * 100)
        await eventually(scene.transport.is_reading)  # as that may have been under way
        for _ in range(10):
            scene.socket.data_received(FLOODS["pings"] * 1000)
        await eventually(lambda: scene.socket._is_paced)
        assert not scene.transport.is_reading()
        await scene.clock.advance(6)
        assert await peer.read() == b""


@on_each_loop
async def test_others_have_their_turn_between_the_commands_of_one_client() -> None:
    async with opened({**CONFIG, "limits": {"backlog": 10_000}}) as (scene, peer):
        await connected(scene, peer)
        lines = [b'{"id": %d, "ping": {}}' % number for number in range(2, 2002)]
        scene.session.receive(Frame(b"\n".join(lines[:1000])))
        turns = 0
        while scene.session.busy:
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 1000 // AT_ONCE


# ---------------------------------------------------------------------------------------------------- what comes in all


@pytest.mark.parametrize("flood", FLOODS)
@on_each_loop
async def test_who_sends_faster_than_its_rate_is_read_no_faster(flood: str) -> None:
    async with opened(SLOW) as (scene, peer):
        await connected(scene, peer)
        scene.socket.data_received(FLOODS[flood] * (10 if flood == "empty fragments" else 300))
        await eventually(lambda: scene.socket._is_paced)
        assert not scene.transport.is_reading()
        for _ in range(300):
            await scene.clock.advance(1)
        assert (scene.socket._is_paced, held(scene.socket)) == (False, b"")
        await peer.send(b'{"id": 7, "ping": {}}')
        while not isinstance(event := await peer.next(), Frame):
            assert isinstance(event, PongFrame)
        assert json.loads(event.data) == {"id": 7, "ping": {}}


@on_each_loop
async def test_who_does_not_stop_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "PAUSES", 3)
    async with opened(SLOW) as (scene, peer):
        await connected(scene, peer)
        for _ in range(30):
            if scene.outbox.closed:
                break
            scene.socket.data_received(FLOODS["pings"] * 150)
            await scene.clock.advance(2)
        events = []
        while not events or not isinstance(events[-1], CloseFrame):
            events.append(await peer.next())
        assert events[-1].code == 3509
        assert all(isinstance(event, PongFrame) for event in events[:-1])


@on_each_loop
async def test_a_client_within_its_rate_is_never_paused() -> None:
    async with opened(SLOW) as (scene, peer):
        await connected(scene, peer)
        for _ in range(300):
            await peer.send(b"", Opcode.PING)
            await peer.next()
            await scene.clock.advance(0.15)
        assert scene.socket._pace is not None
        assert not scene.socket._is_paced


@on_each_loop
async def test_a_client_that_is_paced_is_told_the_end_and_may_close_its_side() -> None:
    async with opened(SLOW) as (scene, peer):
        scene.socket.data_received(FLOODS["pongs"] * 2000)
        assert not scene.transport.is_reading()
        await scene.session.disconnect()
        assert (await peer.next()).code == 3503  # type: ignore[union-attr]
        await peer.send(b"\x0d\xaf", Opcode.CLOSE)
        assert await peer.read() == b""


# ------------------------------------------------------------------------------------- what a client does not read yet


@on_each_loop
async def test_commands_wait_while_their_client_does_not_read_the_replies_and_all_are_answered() -> None:
    async with opened({**CONFIG, "limits": {"outbox": 200_000}}) as (scene, peer):

        @scene.live.rpc("large")
        async def large(session: Session, data: int) -> list[Any]:
            return [data, "x" * 60_000]

        await connected(scene, peer)
        for number in range(2, 42):  # two megabytes, which nobody reads for now
            await peer.send(b'{"id": %d, "rpc": {"method": "large", "data": %d}}' % (number, number))
        await eventually(lambda: scene.session.crowded_since > 0)
        assert scene.outbox.waiting <= 200_000
        got = [json.loads(line) for line in await lines(peer, 40)]
        assert [reply["rpc"]["data"][0] for reply in got] == list(range(2, 42))
        assert scene.outbox.closed is None


async def lines(peer: Peer, count: int) -> list[bytes]:
    got: list[bytes] = []
    while len(got) < count:
        got += (await peer.texts(1))[0].split(b"\n")
    return got


@on_each_loop
async def test_who_never_reads_what_it_asked_for_is_disconnected_as_slow() -> None:
    async with opened({**CONFIG, "limits": {"outbox": 200_000}}) as (scene, peer):

        @scene.live.rpc("large")
        async def large(session: Session, data: int) -> str:
            return "x" * 60_000

        await connected(scene, peer)
        for number in range(2, 42):
            await peer.send(b'{"id": %d, "rpc": {"method": "large", "data": 1}}' % number)
        await eventually(lambda: scene.session.crowded_since > 0)
        timing = scene.live.config.timing
        for _ in range(3):
            await scene.clock.advance(timing.ping_interval + timing.pong_timeout)
        closed = scene.outbox.closed
        assert closed is not None
        assert closed.code == 3008
        await eventually(lambda: not scene.session.busy)


# ------------------------------------------------------------------------------------------------------ other doors


async def test_under_another_server_who_sends_faster_than_its_rate_is_read_no_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rates, "PAUSES", 0)
    live = Freshet(config=parse(SLOW), environment={})
    async with live.lifespan():
        session = live._dispatcher.open(Centrifuge(), Handshake("/"))
        async with over_asgi(session) as call:
            await accepted(call)
            for _ in range(5000):
                call.say(type="websocket.receive", text="{}")
            closed = await call.next()
            assert (closed["type"], closed["code"]) == ("websocket.close", 3509)
            assert call.asked.qsize() > 4000


@pytest.fixture
def slow_server() -> Iterator[None]:
    """What runs in the test finds a server with a rate of frames."""
    server = RunningServer()
    server.frames = Meter(rates.Rate(1000, 200))
    token = SERVER.set(server)
    yield
    SERVER.reset(token)


@pytest.mark.parametrize("flood", sorted(FLOODS.keys() - {"lines of {}"}))  # which are one message there
async def test_on_a_route_of_the_users_own_who_sends_faster_than_its_rate_is_read_no_faster(
    flood: str, slow_server: None
) -> None:
    async with hosted(echo) as it:
        await it.open()
        many = 10 if flood == "empty fragments" else 1000
        it.protocol.data_received(FLOODS[flood] * many + masked(Opcode.TEXT, b"behind it"))
        await eventually(lambda: it.protocol._paused)
        assert not it.protocol._transport.is_reading()
        while not (isinstance(event := await it.peer.next(), Frame) and event.data == b"behind it"):
            pass
        await eventually(it.protocol._transport.is_reading)


async def test_on_a_route_of_the_users_own_who_does_not_stop_is_disconnected(
    monkeypatch: pytest.MonkeyPatch, slow_server: None
) -> None:
    monkeypatch.setattr(rates, "PAUSES", 0)
    async with hosted(echo) as it:
        await it.open()
        it.protocol.data_received(FLOODS["pings"] * 1000)
        while not isinstance(event := await it.peer.next(), CloseFrame):
            pass
        assert (event.code, "rates.frames" in event.reason) == (1008, True)
        await it.over()


async def test_a_flood_on_a_route_of_the_users_own_is_dealt_with_a_portion_a_turn() -> None:
    async with hosted(echo) as it:
        await it.open()
        flood = b"".join(masked(Opcode.PING, b"%d" % number) for number in range(10_000))
        turns = 0
        it.protocol.data_received(flood + masked(Opcode.TEXT, b"behind it"))
        while it.protocol._decoder.held:
            turns += 1
            await asyncio.sleep(0)
        assert turns > 200
        events = []
        while not isinstance(event := await it.peer.next(), Frame):
            events.append(event)
        assert (event.data, events[-1]) == (b"behind it", PongFrame(b"9999"))
        assert len(events) <= turns + 2
