"""The memory engine: the contract, and how time goes there."""

import tracemalloc

import pytest

from freshet.engines.memory import LEASE_KEPT, MemoryEngine
from freshet.model.events import Left
from freshet.model.log import History, Position, PublishOptions
from freshet.testing import ManualClock
from tests.contracts.engine import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.engine import ALICE, KEEP, LOGGED, Delivered
from tests.contracts.own_events import *  # noqa: F403
from tests.contracts.owning import *  # noqa: F403


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


@pytest.fixture
def engine(clock: ManualClock) -> MemoryEngine:
    return MemoryEngine(presence_time=60, clock=clock)


async def test_a_lease_ends_after_its_time_unless_it_is_renewed(
    engine: MemoryEngine, delivered: Delivered, clock: ManualClock
) -> None:
    kept, ended = await engine.take_lease("kept", "node", 10), await engine.take_lease("ended", "node", 10)
    clock.now += 9
    assert await engine.renew_leases("node", {"kept": kept.fence}, 10) == {"kept"}
    clock.now += 2
    assert (await engine.take_lease("ended", "other", 10)).fence > ended.fence
    assert await engine.renew_leases("node", {"kept": kept.fence, "ended": ended.fence}, 10) == {"kept"}
    assert await engine.take_lease("kept", "other", 10) == kept
    clock.now += 11
    engine.sweep()
    assert await engine.renew_leases("node", {"kept": kept.fence}, 10) == {"kept"}, "nobody has taken it"
    clock.now += 10 + LEASE_KEPT
    engine.sweep()
    assert not engine._leases


def held(engine: MemoryEngine) -> int:
    """Everything that it holds for channels and clients."""
    return sum(map(len, (engine._logs, engine._expiry, engine._presence, engine._presence_until, engine._idempotency)))


async def test_a_log_that_nobody_used_for_its_time_begins_anew_with_another_epoch(
    engine: MemoryEngine, delivered: Delivered, clock: ManualClock
) -> None:
    first = await engine.publish("a", b"1", LOGGED)
    clock.now += KEEP.ttl - 1
    assert (await engine.publish("a", b"2", LOGGED)) == Position(first.epoch, 2)
    clock.now += KEEP.ttl + 1
    again = await engine.publish("a", b"3", LOGGED)
    assert again.offset == 1
    assert again.epoch != first.epoch


async def test_while_somebody_listens_publications_expire_but_the_log_goes_on(
    engine: MemoryEngine, delivered: Delivered, clock: ManualClock
) -> None:
    await engine.subscribe("a", KEEP)
    first = await engine.publish("a", b"1", LOGGED)
    clock.now += 10 * KEEP.ttl
    engine.sweep()
    stream = await engine.history("a", KEEP)
    assert stream.publications == []
    assert stream.position == first


async def test_reading_does_not_make_publications_live_longer(
    engine: MemoryEngine, delivered: Delivered, clock: ManualClock
) -> None:
    await engine.publish("a", b"1", LOGGED)
    for _ in range(4):
        clock.now += KEEP.ttl / 3
        stream = await engine.history("a", KEEP)
    assert stream.publications == []
    assert stream.position.offset == 1


async def test_unused_channels_leave_no_memory_behind(
    engine: MemoryEngine, delivered: Delivered, clock: ManualClock
) -> None:
    for index in range(10_000):
        channel = f"channel-{index}"
        await engine.subscribe(channel, KEEP)
        await engine.publish(channel, b"1", PublishOptions(history=KEEP, idempotency_key="key"))
        await engine.set_presence(channel, "a1", ALICE)
        await engine.unsubscribe(channel)
    assert held(engine) == 50_000
    clock.now += 301
    engine.sweep()
    assert held(engine) == 0


async def test_a_silent_client_leaves_after_the_presence_time(
    engine: MemoryEngine, delivered: Delivered, clock: ManualClock
) -> None:
    await engine.subscribe("a", KEEP)
    await engine.set_presence("a", "a1", ALICE)
    clock.now += 40
    await engine.set_presence("a", "a1", ALICE)
    clock.now += 40
    assert await engine.presence("a") == {"a1": ALICE}
    clock.now += 30
    assert await engine.presence("a") == {}
    assert delivered[-1] == Left("a", ALICE)


async def test_a_key_is_forgotten_after_five_minutes(
    engine: MemoryEngine, delivered: Delivered, clock: ManualClock
) -> None:
    once = PublishOptions(history=KEEP, idempotency_key="key")
    await engine.subscribe("a", KEEP)
    await engine.publish("a", b"1", once)
    clock.now += 299
    assert (await engine.publish("a", b"1", once)).offset == 1
    clock.now += 2
    assert (await engine.publish("a", b"1", once)).offset == 2


async def test_an_expired_publication_is_gone_while_a_newer_one_keeps_the_log(
    engine: MemoryEngine, delivered: Delivered, clock: ManualClock
) -> None:
    first = await engine.publish("a", b"1", LOGGED)
    clock.now += KEEP.ttl - 1
    assert await engine.history("a", KEEP, limit=0)
    clock.now += 2
    second = await engine.publish("a", b"2", LOGGED)
    assert second == Position(first.epoch, 2)
    stream = await engine.history("a", KEEP, first)
    assert [publication.data for publication in stream.publications] == [b"2"]
    assert stream.follows(first)
    assert not stream.follows(Position(first.epoch, 0))


async def test_names_that_clients_try_out_leave_no_memory_behind(
    engine: MemoryEngine, delivered: Delivered, clock: ManualClock
) -> None:
    for round_ in range(10):
        for index in range(1000):
            await engine.history(f"tried-{round_}-{index}", KEEP)
        clock.now += KEEP.ttl / 2
        engine.sweep()
        assert held(engine) <= 2 * 2000
    clock.now += KEEP.ttl
    engine.sweep()
    assert held(engine) == 0


async def test_a_log_has_one_entry_among_those_that_expire_however_often_it_is_used(
    engine: MemoryEngine, delivered: Delivered, clock: ManualClock
) -> None:
    for step in range(1000):
        await engine.publish("a", b"1", LOGGED)
        if step % 2:
            await engine.subscribe("a", KEEP)
        else:
            await engine.unsubscribe("a")
        clock.now += 1
        engine.sweep()
        assert len(engine._expiry) == len(engine._logs) == 1


async def test_a_client_that_comes_again_after_its_time_has_joined_again(
    engine: MemoryEngine, delivered: Delivered, clock: ManualClock
) -> None:
    await engine.subscribe("a", KEEP)
    await engine.set_presence("a", "a1", ALICE)
    clock.now += 61
    engine.sweep()
    await engine.set_presence("a", "a1", ALICE)
    assert [type(event).__name__ for event in delivered] == ["Joined", "Left", "Joined"]


async def test_it_sweeps_by_itself_until_it_is_stopped(engine: MemoryEngine, delivered: Delivered) -> None:
    assert engine._timer is not None
    timer = engine._timer
    engine._tick()
    assert engine._timer is not timer
    timer.cancel()
    await engine.stop()
    assert engine._timer is None


async def test_a_log_that_was_used_again_outlives_one_sweep_and_goes_with_a_later_one(
    engine: MemoryEngine, delivered: Delivered, clock: ManualClock
) -> None:
    await engine.publish("a", b"1", LOGGED)
    clock.now += KEEP.ttl - 1
    await engine.publish("a", b"2", LOGGED)
    clock.now += 2
    engine.sweep()
    assert len((await engine.history("a", KEEP)).publications) == 2
    clock.now += KEEP.ttl
    engine.sweep()
    assert held(engine) == 0


@pytest.mark.parametrize("size", [1, 7, 40])
async def test_a_log_that_dropped_many_reads_as_if_it_had_never_had_them(
    engine: MemoryEngine, delivered: Delivered, size: int
) -> None:
    keep = History(size=size, ttl=60)
    published: list[bytes] = []
    for number in range(150):
        published.append(b"%d" % number)
        end = await engine.publish("a", published[-1], PublishOptions(history=keep))
        first = max(0, len(published) - size)
        forward = [it.data for it in (await engine.history("a", keep)).publications]
        assert forward == published[first:]
        backward = [it.data for it in (await engine.history("a", keep, None, 3, reverse=True)).publications]
        assert backward == published[first:][::-1][:3]
        middle = Position(end.epoch, max(1, end.offset - size // 2))
        since = [it.data for it in (await engine.history("a", keep, middle, 5)).publications]
        assert since == published[middle.offset :][:5]
        before = [it.data for it in (await engine.history("a", keep, middle, 5, reverse=True)).publications]
        assert before == published[first : middle.offset - 1][::-1][:5]


async def test_a_short_log_holds_no_more_memory_than_it_counts_for(engine: MemoryEngine, delivered: Delivered) -> None:
    await engine.publish("warm", b"1", LOGGED)
    tracemalloc.start()
    try:
        for number in range(1000):
            await engine.publish(f"channel-{number}", b"1", LOGGED)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken <= engine._quota.size
