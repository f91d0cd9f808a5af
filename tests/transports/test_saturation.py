"""When more is to be written than can be: who sends much waits, who does not read holds little, nobody else notices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from freshet.model.frame import Frame
from freshet.session import outbox as module
from freshet.session.outbox import ADMITTED, CROWD, PATIENCE, PIECE, Outbox
from freshet.transports.native import EACH_OPENING
from tests.tools.patience import eventually
from tests.transports.scene import Scene, on_each_loop, opened
from tests.websocket.peer import masked

CONNECT = masked(1, b'{"id":1,"connect":{}}')
LITTLE = masked(1, b'{"id":2,"rpc":{"method":"a"}}')
MUCH = masked(1, b'{"id":3,"rpc":{"method":"%b"}}' % (b"x" * 5000))


@asynccontextmanager
async def saturated(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Scene, list[Outbox]]]:
    """A client of a process that writes nothing to those who are behind, of whom there are many."""
    async with opened() as (scene, _):
        scene.socket.data_received(CONNECT)
        await eventually(lambda: scene.socket._session.connected)
        monkeypatch.setattr(module, "PORTION_BEHIND", -1)
        behind = [Outbox(scene.outbox.turn, PIECE) for _ in range(CROWD + 1)]
        for each in behind:
            each.replay([Frame(b"waits")])
        await asyncio.sleep(0)
        assert scene.outbox.turn.busy
        yield scene, behind


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
