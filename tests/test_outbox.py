"""The outbox: bounded, and woken once a turn."""

import asyncio

from freshet.errors import Disconnect
from freshet.model import Frame
from freshet.outbox import Outbox, Turn

KIB = 1024


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
    await asyncio.wait_for(woken.wait(), 1)
