"""When more is to be written than can be: who sends much waits, who does not read holds little, nobody else notices."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from freshet import Freshet
from freshet.config import parse
from freshet.endpoints.socketio.engine import EngineSession, EngineSessions, EngineWebSocket
from freshet.errors import Disconnect
from freshet.model.frame import Frame
from freshet.runtime.server import TlsFiles
from freshet.session import outbox as module
from freshet.session.outbox import ADMITTED, CROWD, KIB, PATIENCE, PIECE, Outbox, Turn
from freshet.testing import ManualClock
from freshet.transports import native
from freshet.transports.lobby import Lobby
from freshet.transports.native import EACH_OPENING, SessionSocket
from freshet.transports.tls import Certificates, TlsHandshake, context_of
from freshet.websocket.frames import wire
from tests.tools.certificates import certify
from tests.tools.patience import eventually, seconds
from tests.tools.serving import HOST
from tests.transports.scene import CONFIG, Scene, on_each_loop, opened
from tests.transports.sockets import joined, pair
from tests.websocket.peer import masked

CONNECT = masked(1, b'{"id":1,"connect":{}}')
LITTLE = masked(1, b'{"id":2,"rpc":{"method":"a"}}')
MUCH = masked(1, b'{"id":3,"rpc":{"method":"%b"}}' % (b"x" * 5000))


async def saturate(turn: Turn, monkeypatch: pytest.MonkeyPatch) -> list[Outbox]:
    """Nothing is written to those who are behind, of whom there are many."""
    monkeypatch.setattr(module, "PORTION_BEHIND", -1)
    behind = [Outbox(turn, PIECE) for _ in range(CROWD + 1)]
    for each in behind:
        each.replay([Frame(b"waits")])
    await asyncio.sleep(0)
    assert turn.busy
    return behind


@asynccontextmanager
async def saturated(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Scene, list[Outbox]]]:
    """A client of such a process."""
    async with opened() as (scene, _):
        scene.socket.data_received(CONNECT)
        await eventually(lambda: scene.socket._session.connected)
        yield scene, await saturate(scene.outbox.turn, monkeypatch)


class Settled:
    """Who speaks over an Engine.IO session, and says nothing."""

    settled = True
    backlog_full = False

    def __init__(self, _: EngineSession) -> None: ...

    def receive(self, frame: Frame) -> None: ...

    def alive(self) -> None: ...

    def ended(self, why: Disconnect) -> None: ...


def received(scene: Scene) -> int:
    return scene.live._node.counts.received


@on_each_loop
async def test_what_waits_stays_in_the_outbox_where_all_share_it_but_for_a_piece() -> None:
    async with opened() as (scene, peer):
        frames = [Frame(b"%d " % number + bytes(10_000)) for number in range(150)]
        scene.outbox.replay(frames)
        await eventually(lambda: scene.socket._paused)
        for _ in range(5):
            await asyncio.sleep(0)
        assert scene.transport.get_write_buffer_size() <= PIECE + 100  # and the heads of frames
        assert scene.outbox.more
        assert [*map(len, await peer.texts(150))] == [frame.size for frame in frames]


@on_each_loop
async def test_so_it_is_at_the_end_which_comes_behind_it() -> None:
    async with opened() as (scene, peer):
        frames = [Frame(b"%d " % number + bytes(10_000)) for number in range(150)]
        scene.outbox.replay(frames)
        await eventually(lambda: scene.socket._paused)
        held = scene.transport.get_write_buffer_size()
        scene.session.close(Disconnect.shutdown())
        await eventually(lambda: scene.session.ended)
        assert scene.transport.get_write_buffer_size() <= held
        assert await peer.texts(150) == [frame.data for frame in frames]
        assert (await peer.closed()).code == Disconnect.shutdown().code


@on_each_loop
@pytest.mark.parametrize("size", [60_000, 200_000])  # the protocol before this was told to pause for the second
async def test_what_was_answered_before_and_is_not_read_yet_counts_too(size: int) -> None:
    before = Frame(bytes(size), binary=True)
    async with opened(before=wire(before)) as (scene, peer):
        held = scene.transport.get_write_buffer_size()
        assert held > 1
        frames = [Frame(b"%d " % number + bytes(10_000)) for number in range(50)]
        scene.outbox.replay(frames)
        for _ in range(5):
            await asyncio.sleep(0)
        assert scene.transport.get_write_buffer_size() <= held
        assert await peer.texts(51) == [each.data for each in [before, *frames]]


@on_each_loop
async def test_over_tls_little_more_is_held(tmp_path: Path) -> None:
    certificate, key = certify(tmp_path)
    loop = asyncio.get_running_loop()
    secured: asyncio.Future[asyncio.Transport] = loop.create_future()

    class Secured(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            secured.set_result(cast(asyncio.Transport, transport))

    clock, (ours, theirs) = ManualClock(), pair()
    live = Freshet(config=parse(CONFIG), environment={}, clock=clock)
    context = context_of(TlsFiles(str(certificate), str(key)))
    certificates = cast(Certificates, SimpleNamespace(context=context))
    hands = TlsHandshake(Secured, certificates, set(), Lobby(lambda: 0, 10), live._node.tasks, seconds(5))
    async with live.lifespan():
        raw, _ = await loop.create_connection(lambda: hands, sock=ours)
        trust = ssl.create_default_context(cafile=str(certificate))
        reader, writer = await asyncio.open_connection(sock=theirs, ssl=trust, server_hostname=HOST, limit=KIB)
        scene = Scene(live, clock, await secured, False)
        frames = [Frame(b"%d " % number + bytes(10_000)) for number in range(300)]
        scene.outbox.replay(frames)
        await eventually(lambda: scene.socket._paused)
        for _ in range(100):  # in which the client takes what it takes
            await asyncio.sleep(0)
        assert scene.outbox.more
        assert raw.get_write_buffer_size() + scene.transport.get_write_buffer_size() <= 2 * PIECE + KIB
        got = await reader.readexactly(sum(len(wire(frame)) for frame in frames))
        assert got == b"".join(map(wire, frames))
        writer.transport.abort()
        raw.abort()


@on_each_loop
async def test_who_sends_much_is_read_on_when_what_clients_sent_before_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with saturated(monkeypatch) as (scene, behind):
        before = received(scene)
        scene.socket.data_received(LITTLE)
        assert received(scene) == before + 1  # at once
        scene.socket.data_received(MUCH + LITTLE)
        for _ in range(10):
            await asyncio.sleep(0)
        assert received(scene) == before + 1
        for each in behind:
            each.take()
        monkeypatch.undo()
        await eventually(lambda: not scene.outbox.turn.busy)
        await eventually(lambda: received(scene) == before + 3)


@on_each_loop
async def test_who_sends_much_is_read_on_in_the_end_however_busy_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    async with saturated(monkeypatch) as (scene, _):
        before = received(scene)
        scene.socket.data_received(MUCH)
        turns = 0
        while received(scene) == before:
            turns += 1
            assert turns <= 2 * PATIENCE
            await asyncio.sleep(0)
        assert turns > PATIENCE // 2
        assert scene.outbox.turn.busy


@on_each_loop
@pytest.mark.parametrize("heard", [False, True])
async def test_who_waits_misses_no_heartbeat_whose_answer_waits_with_the_rest(
    monkeypatch: pytest.MonkeyPatch, heard: bool
) -> None:
    monkeypatch.setattr(native, "PATIENCE", 10**9)
    async with saturated(monkeypatch) as (scene, _):
        if heard:
            scene.socket.data_received(MUCH)
        for _ in range(60):
            await scene.clock.advance(1)
        assert (scene.outbox.closed is None) is heard


@on_each_loop
@pytest.mark.parametrize("heard", [False, True])
async def test_nor_does_who_speaks_socket_io(monkeypatch: pytest.MonkeyPatch, heard: bool) -> None:
    monkeypatch.setattr(native, "PATIENCE", 10**9)
    clock = ManualClock()
    live = Freshet(config=parse(CONFIG), environment={}, clock=clock)
    async with live.lifespan(), joined(asyncio.Protocol()) as (transport, _):
        sessions = EngineSessions(live._dispatcher, live._node.turn, live._node.id)
        session = sessions.open(Settled)
        socket = SessionSocket(EngineWebSocket(session, sessions, probes=False), transport, set(), False)
        await saturate(live._node.turn, monkeypatch)
        if heard:
            socket.data_received(MUCH)
        for _ in range(60):
            await clock.advance(1)
        assert (session.outbox.closed is None) is heard
        session.end(Disconnect.normal())


@on_each_loop
async def test_others_are_answered_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    async with saturated(monkeypatch) as (scene, behind):
        scene.socket.data_received(LITTLE)
        for _ in range(3):
            await asyncio.sleep(0)
        assert scene.outbox.first is None
        assert all(each.first for each in behind)


@on_each_loop
async def test_sessions_are_opened_a_few_in_each_turn_busy_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands may come at once; who is connected waits no longer for it."""
    async with opened() as (scene, _):
        scene.outbox.turn.fair_queue.charge(4 * EACH_OPENING)
        scene.outbox.turn.busy = True
        scene.socket.data_received(CONNECT)
        assert received(scene) == 0
        await eventually(lambda: scene.socket._session.connected)


@on_each_loop
async def test_one_who_catches_up_with_much_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as (scene, _):
        scene.socket.data_received(CONNECT)
        await eventually(lambda: scene.socket._session.connected)
        monkeypatch.setattr(module, "PORTION_BEHIND", -1)
        Outbox(scene.outbox.turn, PIECE).replay([Frame(b"waits")])
        await asyncio.sleep(0)
        before = received(scene)
        scene.socket.data_received(MUCH)
        assert received(scene) == before + 1


@on_each_loop
async def test_so_much_is_looked_at_in_a_turn_of_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as (scene, _):
        scene.socket.data_received(CONNECT)
        await eventually(lambda: scene.socket._session.connected)
        await asyncio.sleep(0)
        before = received(scene)
        assert scene.outbox.turn.admits(ADMITTED + 1)  # another's
        scene.socket.data_received(MUCH)
        assert received(scene) == before
        await eventually(lambda: received(scene) == before + 1)
