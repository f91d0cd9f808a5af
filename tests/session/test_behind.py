"""Who has much waiting gets it a piece at a time, after all who have little: complete, and in order."""

import asyncio
import random
import socket
from collections.abc import Iterator

import pytest

from freshet.errors import Disconnect
from freshet.model.frame import Frame
from freshet.session import outbox as module
from freshet.session.outbox import PIECE, Outbox, Turn, broadcast
from freshet.websocket.frames import wire
from tests.session.lines import KIB, Line
from tests.tools.patience import eventually, seconds

MANY = [Frame(b"%d " % number + bytes(KIB)) for number in range(10 * PIECE // KIB)]


class Taking:
    """A transport that takes pieces while it is free. pieces: what it took each time."""

    def __init__(self, turn: Turn, limit: int = 64 * KIB) -> None:
        self.outbox = Outbox(turn, limit)
        self.outbox.attach(self.take)
        self.free = True
        self.pieces: list[list[Frame]] = []

    def take(self) -> None:
        if self.free and (piece := self.outbox.take_piece()):
            self.pieces.append(piece)

    @property
    def taken(self) -> list[Frame]:
        return [frame for piece in self.pieces for frame in piece]


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line(pieces=True)
    yield made
    made.close()


async def test_much_leaves_in_pieces_in_order() -> None:
    turn = Turn()
    one = Taking(turn)
    one.outbox.replay(MANY)
    await eventually(lambda: not turn.scheduled)
    assert one.taken == MANY
    assert {sum(frame.size for frame in piece) <= PIECE for piece in one.pieces} == {True}
    assert len(one.pieces) <= 12  # as few as can be, nearly


async def test_a_frame_that_is_larger_than_a_piece_is_one() -> None:
    turn, frames = Turn(), [Frame(b"1"), Frame(bytes(3 * PIECE)), Frame(b"3"), Frame(b"")]
    one = Taking(turn)
    one.outbox.replay(frames)
    await eventually(lambda: not turn.scheduled)
    assert one.pieces == [frames[:1], frames[1:2], frames[2:]]


async def test_who_is_behind_takes_turns_with_others_who_are_and_waits_for_all_who_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PORTION_BEHIND", 2 * PIECE)
    turn = Turn()
    behind, quick = [Taking(turn) for _ in range(8)], Taking(turn)
    for one in behind:
        one.outbox.replay(MANY)
    turn.end()
    for number in range(1, 4):
        quick.outbox.push(Frame(b"%d" % number))
        turn.end()
        assert len(quick.pieces) == number
    had = [len(one.pieces) for one in behind]
    assert max(had) - min(had) <= 1
    assert sum(had) < 8 + 4 * 4  # the first, and a portion in each turn
    await eventually(lambda: not turn.scheduled)
    assert [one.taken for one in behind] == [MANY] * 8


async def test_a_transport_that_is_stuck_is_not_asked_again_until_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PORTION_BEHIND", 0)
    turn = Turn()
    one = Taking(turn)
    one.outbox.replay(MANY)
    turn.end()
    one.free = False
    await eventually(lambda: not turn.scheduled)
    had = len(one.pieces)
    assert one.outbox.first is not None
    for _ in range(3):
        one.outbox.go_on()  # which does not count twice
    assert len(turn.behind) == 1
    one.free = True
    await eventually(lambda: not turn.scheduled)
    assert len(one.pieces) > had
    assert (one.taken, len(turn.behind)) == (MANY, 0)


async def test_one_that_takes_more_again_with_nothing_queued_costs_no_turn() -> None:
    turn = Turn()
    Taking(turn).outbox.go_on()
    await asyncio.sleep(0)
    assert (turn.scheduled, len(turn.behind)) == (False, 0)


async def test_all_goes_before_the_end() -> None:
    turn = Turn()
    one = Taking(turn)
    one.outbox.replay(MANY)
    one.outbox.close(Disconnect.shutdown())
    await eventually(lambda: not turn.scheduled)
    assert one.taken == MANY


async def test_a_free_transport_is_not_slow_whatever_comes_in_one_turn() -> None:
    turn = Turn()
    one = Taking(turn, limit=8 * KIB)
    for frame in MANY:
        one.outbox.push(frame)
    await eventually(lambda: not turn.scheduled)
    assert (one.taken, one.outbox.closed) == (MANY, None)


async def test_what_waits_counts_less_after_each_piece_and_what_was_missed_does_not_count() -> None:
    turn = Turn()
    one = Taking(turn, limit=1000 * KIB)
    one.outbox.replay(MANY[:40])
    for frame in MANY[40:80]:
        one.outbox.push(frame)
    counted = [one.outbox.waiting]
    while one.outbox.first is not None:
        one.take()
        counted.append(one.outbox.waiting)
    assert counted[0] == sum(frame.size for frame in MANY[40:80])
    assert counted == sorted(counted, reverse=True)
    assert counted[-1] == 0


@pytest.mark.parametrize("seed", range(20))
async def test_what_may_be_dropped_is_so_only_while_it_waits(seed: int) -> None:
    """Offered by twenty keys, taken in pieces at any time: the last of each key arrives, in the order of the offers."""
    rng, turn = random.Random(seed), Turn()
    one = Taking(turn, limit=1000 * KIB)
    one.free = False
    last: dict[int, Frame] = {}
    for number in range(400):
        key = rng.randrange(20)
        last.pop(key, None)
        last[key] = Frame(b"%d %d " % (key, number) + bytes(rng.randrange(4 * KIB)))
        one.outbox.offer(last[key], key)
        one.free = not rng.randrange(10)
        one.take()
    one.free = True
    one.outbox.go_on()
    await eventually(lambda: not turn.scheduled)
    numbers = [int(frame.data.split()[1]) for frame in one.taken]
    assert numbers == sorted(set(numbers))
    assert {*map(id, last.values())} <= {*map(id, one.taken)}
    assert one.outbox.waiting == 0


async def test_who_waits_until_all_is_taken_does_not_wait_for_what_comes_later() -> None:
    turn = Turn()
    one = Taking(turn, limit=1000 * KIB)
    one.free = False
    one.outbox.replay(MANY[:40])
    waiting = asyncio.create_task(one.outbox.drained())
    await asyncio.sleep(0)
    one.free = True
    for frame in MANY[40:]:  # for each piece that leaves, as much comes
        one.outbox.push(frame)
        if waiting.done():
            break
        if sum(map(len, one.pieces)) < 40:
            one.take()
        await asyncio.sleep(0)
    await asyncio.wait_for(waiting, seconds(5))
    assert set(MANY[:40]) <= set(one.taken)


async def test_what_a_socket_does_not_take_of_a_piece_comes_before_the_next(line: Line) -> None:
    """Past the transport: the first piece fills the kernel, what is left of it is the transport's, and goes first."""
    broadcast([line.outbox], Frame(b"before"))
    line.outbox.replay(MANY)
    turn = line.outbox.turn
    turn.end()
    got = line.read()
    while turn.behind or turn.scheduled or line.waiting or line.outbox.first:
        await asyncio.sleep(0)
        got += line.read()
        line.outbox.go_on()
    assert got == b"".join(map(wire, [Frame(b"before"), *MANY]))


async def test_what_was_missed_leaves_whole_behind_an_answer_that_goes_past_the_transport(line: Line) -> None:
    """As for one who subscribes again on a connection: nothing else may come that wakes its transport."""
    line.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # so that it is never full
    broadcast([line.outbox], Frame(b"before"))
    line.outbox.push(Frame(b"the answer"))
    line.outbox.replay(MANY)
    assert line.outbox.direct >= 0
    got, turn = b"", line.outbox.turn
    while turn.scheduled:
        await asyncio.sleep(0)
        got += line.read()
    assert got == b"".join(map(wire, [Frame(b"before"), Frame(b"the answer"), *MANY]))


async def test_what_is_put_back_counts_and_is_first() -> None:
    outbox = Outbox(Turn(), 64 * KIB)
    outbox.replay(MANY[:2])
    outbox.push(MANY[2])
    rest = Frame(b"rest")
    outbox.put_back(rest)
    assert outbox.waiting == rest.size + MANY[2].size
    assert outbox.take() == [rest, *MANY[:3]]


async def test_what_waits_never_counts_less_than_nothing() -> None:
    """What was missed does not count, and leaves before what does."""
    one = Taking(Turn())
    one.outbox.replay(MANY[:40])
    one.outbox.offer(Frame(bytes(10 * KIB)), "key")
    one.take()
    one.outbox.offer(Frame(b"x"), "key")
    assert one.outbox.waiting == 1
    while one.outbox.first is not None:
        one.take()
    assert one.taken[-1].data == b"x"


async def test_one_whose_client_is_gone_already_has_no_end_that_others_wait_for() -> None:
    turn = Turn()
    one = Outbox(turn, KIB)
    one.attach(one.take)  # type: ignore[arg-type]
    one.detach()
    one.close(Disconnect.normal())
    assert (turn.scheduled, turn.touched) == (False, [])
    woken: list[bool] = []
    one.attach(lambda: woken.append(True))  # who comes late is told so
    turn.end()
    assert woken == [True]


async def test_many_who_are_ended_are_so_a_portion_in_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PORTION_BEHIND", 4 * module.ENDING - 1)
    turn, ended = Turn(), list[Outbox]()
    outboxes = [Outbox(turn, KIB) for _ in range(20)]
    for outbox in outboxes:
        outbox.attach(lambda it=outbox: ended.append(it))  # type: ignore[misc]
        outbox.close(Disconnect.shutdown())
    turn.end()
    assert len(ended) == 4
    await eventually(lambda: not turn.scheduled)
    assert ended == outboxes
