"""The outbox: bounded, and woken once a turn."""

import asyncio
import os
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.errors import Disconnect
from freshet.model.frame import Batch, Frame
from freshet.session.outbox import Outbox, Turn, broadcast
from freshet.websocket.frames import wire
from tests.session.lines import KIB, Line, three_lines
from tests.tools.patience import seconds

lines = pytest.fixture(three_lines)


async def test_an_outbox_is_woken_once_for_all_that_came_in_a_turn() -> None:
    outbox, wakes = Outbox(Turn(), 64 * KIB), 0

    def wake() -> None:
        nonlocal wakes
        wakes += 1

    outbox.attach(wake)
    frames = [Frame(b"%d" % index) for index in range(5)]
    for frame in frames:
        outbox.push(frame)
    assert wakes == 0
    await asyncio.sleep(0)
    assert wakes == 1
    assert outbox.take() == frames
    assert outbox.take() == []


async def test_a_batch_comes_out_as_its_frames_in_their_order_and_counts_with_all_of_them() -> None:
    outbox = Outbox(Turn(), 64 * KIB)
    frames = [Frame(b"x" * size) for size in (1, 20, 300)]
    outbox.push(Batch(frames))
    assert outbox.waiting == 321
    outbox.push(last := Frame(b"last"))
    assert outbox.waiting == 325
    assert outbox.take() == [*frames, last]
    assert outbox.take() == []


async def test_a_transport_that_is_free_takes_more_than_the_limit_in_one_turn() -> None:
    outbox = Outbox(Turn(), 10 * KIB)
    taken: list[Frame] = []
    outbox.attach(lambda: taken.extend(outbox.take()))
    frames = [Frame(bytes(KIB)) for _ in range(100)]
    for frame in frames:
        outbox.push(frame)
    await asyncio.sleep(0)
    assert taken == frames
    assert outbox.closed is None


async def test_a_transport_that_is_stuck_costs_at_most_the_limit_and_is_closed_as_slow() -> None:
    outbox = Outbox(Turn(), 10 * KIB)
    outbox.attach(lambda: None)
    for index in range(100):
        outbox.push(Frame(bytes(KIB)))
        assert sum(len(frame.data) for frame in [outbox.first, *(outbox.more or [])] if frame) <= 10 * KIB, index
    assert outbox.closed is not None
    assert (outbox.closed.code, outbox.take()) == (3008, [])


async def test_what_a_client_missed_may_be_larger_than_the_limit_and_what_comes_besides_may_not() -> None:
    outbox = Outbox(Turn(), 10 * KIB)
    outbox.attach(lambda: None)
    missed = [Frame(bytes(KIB)) for _ in range(50)]
    outbox.replay(missed[:25])
    outbox.replay(missed[25:])
    live = [Frame(bytes(KIB)) for _ in range(10)]
    for frame in live:
        outbox.push(frame)
    assert outbox.take() == missed + live
    outbox.replay(missed)
    for frame in [*live, Frame(b"1")]:
        outbox.push(frame)
    assert outbox.closed is not None
    assert (outbox.closed.code, outbox.take()) == (3008, [])


async def test_one_frame_may_be_larger_than_the_limit() -> None:
    outbox = Outbox(Turn(), KIB)
    outbox.push(frame := Frame(bytes(64 * KIB)))
    assert outbox.take() == [frame]
    assert outbox.closed is None


async def test_what_waits_before_the_end_still_goes_out_and_the_first_reason_stays() -> None:
    outbox = Outbox(Turn(), KIB)
    outbox.push(frame := Frame(b"last"))
    outbox.close(Disconnect.expired())
    outbox.close(Disconnect.slow())
    outbox.push(Frame(b"too late"))
    assert outbox.take() == [frame]
    assert outbox.closed is not None
    assert outbox.closed.code == 3005


async def test_what_waited_before_a_transport_came_wakes_it() -> None:
    outbox, woken = Outbox(Turn(), KIB), asyncio.Event()
    outbox.push(Frame(b"early"))
    outbox.attach(woken.set)
    await asyncio.wait_for(woken.wait(), seconds(5))


steps = st.lists(st.integers(0, 600) | st.sampled_from(["take", "stuck", "free", "turn"]), max_size=60)


@given(steps)
def test_frames_come_out_once_in_order_or_the_client_is_slow(steps: list[int | str]) -> None:
    """Whenever a transport takes and whenever it is stuck: a prefix comes out, all of it unless it was cut."""

    async def story() -> None:
        turn = Turn()
        outbox, taken, free = Outbox(turn, KIB), deque[Frame](), True
        outbox.attach(lambda: taken.extend(outbox.take()) if free else None)
        pushed: list[Frame] = []
        for step in steps:
            if isinstance(step, int):
                cut = outbox.closed
                outbox.push(frame := Frame(bytes(step)))
                pushed += [] if cut else [frame]
                waiting = [each for each in [outbox.first, *(outbox.more or [])] if each]
                assert len(waiting) <= 1 or sum(len(each.data) for each in waiting) <= KIB
            elif step == "take":
                taken.extend(outbox.take())
            elif step == "turn":
                turn.end()
            else:
                free = step == "free"
        free = True
        await asyncio.sleep(0)
        turn.end()
        taken.extend(outbox.take())
        assert list(taken) == pushed[: len(taken)]
        assert len(taken) == len(pushed) or (outbox.closed is not None and outbox.closed.code == 3008)

    asyncio.run(story())


async def test_many_outboxes_are_each_woken_once_in_a_turn() -> None:
    turn = Turn()
    woken = [0] * 50

    def waking(index: int) -> Outbox:
        outbox = Outbox(turn, KIB)

        def wake() -> None:
            woken[index] += 1
            outbox.take()

        outbox.attach(wake)
        return outbox

    outboxes = [waking(index) for index in range(50)]
    for _ in range(3):
        for outbox in outboxes:
            outbox.push(Frame(b"1"))
    await asyncio.sleep(0)
    assert woken == [1] * 50


async def test_what_a_wake_pushes_leaves_in_the_next_turn_and_is_not_lost() -> None:
    turn = Turn()
    first, second = Outbox(turn, KIB), Outbox(turn, KIB)
    received: list[Frame] = []
    first.attach(lambda: [second.push(frame) for frame in first.take()] and None)
    second.attach(lambda: received.extend(second.take()))
    first.push(frame := Frame(b"on"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert received == [frame]


def test_an_outbox_has_no_dictionary_of_its_own() -> None:
    assert not hasattr(Outbox(Turn(), KIB), "__dict__")


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=80),
    st.lists(st.integers(0, 80), max_size=5),
    st.integers(5, 20),
)
def test_what_is_offered_is_dropped_for_its_successor_or_for_want_of_room(
    offers: list[tuple[int, int]], takes: list[int], limit: int
) -> None:
    """Against a model: a list, from which one with the same key goes, then the oldest while it is too large."""

    async def story() -> None:
        outbox = Outbox(Turn(), limit)
        outbox.attach(lambda: None)
        model: list[tuple[int, Frame]] = []
        for index, (key, size) in enumerate(offers):
            frame = Frame(b"x" * size)
            outbox.offer(frame, key)
            model = [each for each in model if each[0] != key]
            while sum(each.size for _, each in model) + size > limit:
                model.pop(0)
            model.append((key, frame))
            if index in takes:
                assert outbox.take() == [each for _, each in model]
                model = []
        assert outbox.take() == [each for _, each in model]
        assert outbox.closed is None

    asyncio.run(story())


async def test_what_must_not_be_dropped_stays_beside_what_may_and_is_still_limited() -> None:
    outbox = Outbox(Turn(), 10)
    outbox.attach(lambda: None)
    reply = Frame(b"reply")
    outbox.push(reply)
    for index in range(20):
        outbox.offer(Frame(b"%02d" % index), object())
    assert [frame.data for frame in outbox.take()] == [b"reply", b"18", b"19"]
    for frame in (Frame(b"1234"), reply):
        outbox.push(frame)
    outbox.offer(Frame(b"more than there is room for"), "key")
    assert outbox.closed is not None
    assert outbox.closed.code == 3008


async def test_a_transport_that_is_free_gets_all_that_is_offered_in_one_turn() -> None:
    outbox = Outbox(Turn(), 10)
    taken: list[Frame] = []
    outbox.attach(lambda: taken.extend(outbox.take()))
    frames = [Frame(b"1234") for _ in range(20)]
    for frame in frames:
        outbox.offer(frame, frame)
    await asyncio.sleep(0)
    assert taken == frames


async def test_what_all_get_goes_past_a_transport_in_which_nothing_waits(lines: list[Line]) -> None:
    frames = [Frame(b"%d" % number) for number in range(5)]
    for frame in frames:
        broadcast([line.outbox for line in lines], frame)
    assert [line.woken for line in lines] == [1, 1, 1]
    assert [line.read() for line in lines] == [b"".join(map(wire, frames))] * 3


async def test_what_all_get_comes_behind_what_one_was_told_before(lines: list[Line]) -> None:
    first, told, last = Frame(b"first"), Frame(b"told"), Frame(b"last")
    one, *others = lines
    broadcast([line.outbox for line in lines], first)
    one.outbox.push(told)
    broadcast([line.outbox for line in lines], last)
    await asyncio.sleep(0)
    assert one.read() == wire(first) + wire(told) + wire(last)
    assert [line.read() for line in others] == [wire(first) + wire(last)] * 2


async def test_what_the_kernel_does_not_take_comes_later_and_in_order(lines: list[Line]) -> None:
    """One reads at once, one late, one not at all: each gets all, or is slow."""
    prompt, late, _ = lines
    frames = [Frame(b"%d " % number + bytes(16 * KIB)) for number in range(50)]
    got = b""
    for frame in frames:
        broadcast([line.outbox for line in lines], frame)
        got += prompt.read()
    assert got == b"".join(map(wire, frames))
    assert late.waiting
    assert late.read() == got


async def test_nothing_goes_past_the_end(lines: list[Line]) -> None:
    one, two, three = lines
    broadcast([line.outbox for line in lines], Frame(b"before"))
    one.outbox.close(Disconnect.shutdown())
    two.theirs.close()
    broadcast([line.outbox for line in lines], Frame(b"after"))
    assert one.read() == wire(Frame(b"before"))
    assert two.waiting == wire(Frame(b"after"))  # which its transport will find out
    assert two.outbox.direct == -1
    assert three.read() == wire(Frame(b"before")) + wire(Frame(b"after"))


async def test_who_waits_until_all_is_taken_goes_on_then_and_at_the_end_of_the_outbox() -> None:
    outbox = Outbox(Turn(), 100)
    await asyncio.wait_for(outbox.drained(), seconds(5))  # nothing is queued
    for end in (outbox.take, lambda: outbox.close(Disconnect.normal())):
        outbox.push(Frame(b"x" * 60))
        waiting = [asyncio.create_task(outbox.drained()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(each.done() for each in waiting)
        outbox.push(Frame(b"y"))
        end()
        await asyncio.wait_for(asyncio.gather(*waiting), seconds(5))
    await asyncio.wait_for(outbox.drained(), seconds(5))  # no more will come


async def test_what_a_turn_has_for_each_goes_past_its_transport_in_one_write(lines: list[Line]) -> None:
    """As when several channels are fanned out in a turn: each client has its own choice of frames."""
    turn, writes, write = lines[0].outbox.turn, 0, os.write
    frames = [Frame(b"%d" % number) for number in range(4)]
    broadcast([line.outbox for line in lines], Frame(b"before"))
    for line in lines:
        line.outbox.turn = turn
        line.read()

    def count(descriptor: int, data: bytes) -> int:
        nonlocal writes
        writes += len(data) > 1  # and not what wakes the event loop
        return write(descriptor, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", count)
        for line, chosen in zip(lines, (frames, frames[:1], [Batch(frames[:2]), frames[3]]), strict=True):
            for frame in chosen:
                line.outbox.push(frame)
        turn.end()
    assert [line.read() for line in lines] == [
        b"".join(map(wire, chosen)) for chosen in (frames, frames[:1], [frames[0], frames[1], frames[3]])
    ]
    assert (writes, [line.woken for line in lines]) == (3, [1, 1, 1])


async def test_what_the_kernel_does_not_take_of_a_turn_comes_later_and_in_order(lines: list[Line]) -> None:
    prompt, late, _ = lines
    frames = [Frame(b"%d " % number + bytes(8 * KIB)) for number in range(50)]
    got = b""
    for number, frame in enumerate(frames):
        for line in lines:
            line.outbox.push(frame)
            if number % 3:
                line.outbox.turn.end()
        got += prompt.read()
    for line in lines:
        line.outbox.turn.end()
    got += prompt.read()
    assert got == b"".join(map(wire, frames))
    assert late.waiting
    assert late.read() == got
