"""What is sent to many goes out a portion in each turn, so that others have theirs; nobody misses any of it."""

import asyncio
from collections.abc import Iterator

import pytest

from freshet.errors import Disconnect
from freshet.model.frame import Frame
from freshet.session import outbox as module
from freshet.session.outbox import EACH, Outbox, Turn, broadcast
from freshet.websocket.frames import wire
from tests.session.lines import Line
from tests.tools.patience import eventually

CLIENTS = 10
AT_ONCE = 3  # clients whose frames are a portion


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Line]]:
    """Clients of one process, of whom a few fill a turn."""
    turn, made = Turn(), [Line() for _ in range(CLIENTS)]
    frame = wire(Frame(b"first"))
    monkeypatch.setattr(module, "PORTION", AT_ONCE * (EACH + len(frame)) - 1)
    for line in made:
        line.outbox.turn = turn
        line.write()  # from when nothing waits, it may be written to past its transport
    yield made
    for line in made:
        line.close()


async def test_what_all_get_goes_to_a_portion_of_them_in_a_turn(many: list[Line]) -> None:
    broadcast([line.outbox for line in many], Frame(b"first"))
    reached = [sum(bool(line.read()) for line in many)]
    while sum(reached) < CLIENTS:
        await asyncio.sleep(0)
        reached.append(sum(bool(line.read()) for line in many))
    assert max(reached) <= AT_ONCE
    assert len(reached) >= CLIENTS / AT_ONCE


async def test_others_have_their_turn_between_the_portions(many: list[Line]) -> None:
    broadcast([line.outbox for line in many], Frame(b"first"))
    other = Line()
    broadcast([other.outbox], Frame(b"for another"))
    other.write()
    assert other.read() == wire(Frame(b"for another"))
    assert any(not line.read() for line in many)
    other.close()


async def test_what_comes_meanwhile_stays_behind_what_was_sent_before(many: list[Line]) -> None:
    frames = [Frame(b"first"), Frame(b"other"), Frame(b"third")]
    for frame in frames:
        broadcast([line.outbox for line in many], frame)
        await asyncio.sleep(0)
    many[-1].outbox.push(Frame(b"its own"))
    turn = many[0].outbox.turn
    await eventually(lambda: not turn.scheduled)
    *others, last = (line.read() for line in many)
    assert others == [b"".join(map(wire, frames))] * (CLIENTS - 1)
    assert last == b"".join(map(wire, [*frames, Frame(b"its own")]))


async def test_what_a_turn_has_for_each_leaves_in_portions_too(many: list[Line]) -> None:
    large = Frame(bytes(module.PORTION))
    for line in many:
        line.outbox.push(Frame(b"small"))
    many[0].outbox.push(large)
    await asyncio.sleep(0)
    assert many[0].read() == wire(Frame(b"small")) + wire(large)
    assert [bool(line.read()) for line in many[1:]] == [False] * (CLIENTS - 1)
    await eventually(lambda: not many[0].outbox.turn.scheduled)
    assert [line.read() for line in many[1:]] == [wire(Frame(b"small"))] * (CLIENTS - 1)


async def test_an_outbox_that_is_full_is_emptied_at_once_though_its_turn_has_not_come(many: list[Line]) -> None:
    turn, taken = many[0].outbox.turn, list[Frame]()
    late = Outbox(turn, 1024)
    late.attach(lambda: taken.extend(late.take()))
    frames = [Frame(bytes(100)) for _ in range(50)]
    for line in many:
        line.outbox.push(Frame(bytes(module.PORTION)))
    for frame in frames:
        late.push(frame)
    await eventually(lambda: not turn.scheduled)
    assert (taken, late.closed) == (frames, None)


async def test_what_came_before_in_the_turn_goes_out_with_what_all_get(many: list[Line]) -> None:
    published, *others = many[:AT_ONCE]
    published.outbox.push(Frame(b"its answer"))
    woken = [line.woken for line in many]
    broadcast([line.outbox for line in (published, *others)], Frame(b"first"))
    assert published.read() == wire(Frame(b"its answer")) + wire(Frame(b"first"))
    assert [line.read() for line in others] == [wire(Frame(b"first"))] * len(others)
    await asyncio.sleep(0)
    assert ([line.woken for line in many], published.read()) == (woken, b"")


async def test_of_what_came_before_nothing_is_lost_where_the_socket_takes_a_part(many: list[Line]) -> None:
    line, answer = many[0], Frame(bytes(1024 * 1024))
    line.outbox.limit = 2 * answer.size
    line.outbox.push(answer)
    broadcast([line.outbox], Frame(b"first"))
    assert (line.outbox.direct, line.outbox.first) == (-1, None)
    assert line.read() == wire(answer) + wire(Frame(b"first"))


async def test_who_was_written_to_meanwhile_and_is_closed_is_told_so_at_the_end_of_the_turn(many: list[Line]) -> None:
    line, other = many[:2]
    line.outbox.push(Frame(b"its answer"))
    broadcast([line.outbox, other.outbox], Frame(b"first"))
    line.outbox.close(Disconnect.shutdown())
    woken = line.woken, other.woken
    await asyncio.sleep(0)
    assert (line.woken > woken[0], other.woken) == (True, woken[1])
