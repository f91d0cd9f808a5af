"""What logs may hold in memory: which give way, and that nobody who returns to one of them is left in the dark."""

from collections.abc import Callable
from pathlib import Path

import pytest

from freshet.engines.base import REVOCATIONS, USED_TICKET
from freshet.engines.memory import MemoryEngine
from freshet.engines.sqlite import SqliteEngine
from freshet.model.log import History, Position, PublishOptions, Stream
from freshet.testing import ManualClock
from tests.contracts.engine import KEEP, LOGGED, Delivered

KIB = 1024
DATA = b"x" * KIB
MOST = 64 * KIB


Make = Callable[[], MemoryEngine]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    clock = ManualClock(1000.0)
    if request.param == "memory":
        return lambda: MemoryEngine(60, clock, MOST)
    return lambda: SqliteEngine(f"sqlite:///{tmp_path / 'logs.db'}", 60, clock, MOST)


@pytest.fixture
def engine(make: Make) -> MemoryEngine:
    return make()


@pytest.fixture
async def delivered(engine: MemoryEngine) -> Delivered:
    got = Delivered()
    await engine.start("node", got.receiver)
    return got


def held(engine: MemoryEngine) -> int:
    return sum(it.size for it in engine._logs.values())


async def test_a_client_that_makes_channel_after_channel_takes_no_more_memory_than_there_is_for_logs(
    engine: MemoryEngine, delivered: Delivered, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1000):
        await engine.publish(f"made-{number}", DATA, LOGGED)
        assert engine._quota.size == held(engine) <= MOST
    assert len(engine._expiry) < 300  # nothing is left of those that gave way
    assert caplog.text.count("limits.log_memory") == 1
    newest = await engine.history("made-999", KEEP)
    assert len(newest.publications) == 1
    await engine.stop()


async def test_the_channel_that_was_quiet_for_longest_gives_way_and_begins_anew_with_another_epoch(
    engine: MemoryEngine, delivered: Delivered
) -> None:
    old = await engine.publish("old", DATA, LOGGED)
    busy = await engine.publish("busy", DATA, LOGGED)
    for number in range(100):
        await engine.publish(f"made-{number}", DATA, LOGGED)
        busy = await engine.publish("busy", DATA, LOGGED)
    assert (await engine.history("busy", KEEP)).position == busy
    again = await engine.history("old", KEEP, old)
    assert again.position.epoch != old.epoch
    assert not again.follows(old)
    await engine.stop()


async def test_a_log_that_has_subscribers_goes_on_without_its_publications(
    engine: MemoryEngine, delivered: Delivered
) -> None:
    await engine.subscribe("seen", KEEP)
    first = await engine.publish("seen", DATA, LOGGED)
    for number in range(100):
        await engine.publish(f"made-{number}", DATA, LOGGED)
    read = await engine.history("seen", KEEP, Position(first.epoch, 0))
    assert read == Stream([], first)  # its epoch and its offset are those that its subscribers know
    assert not read.follows(Position(first.epoch, 0))
    assert await engine.publish("seen", b"2", LOGGED) == Position(first.epoch, 2)
    assert [it.offset for it in (await engine.history("seen", KEEP)).publications] == [2]
    assert engine._quota.size == held(engine)
    await engine.stop()


async def test_one_channel_that_is_larger_than_all_memory_keeps_its_newest(
    engine: MemoryEngine, delivered: Delivered
) -> None:
    large = PublishOptions(history=History(size=1000, ttl=60))
    for number in range(200):
        await engine.publish("large", b"%d" % number + DATA, large)
    read = await engine.history("large", History(size=1000, ttl=60))
    assert [it.offset for it in read.publications][-1] == 200
    assert 40 < len(read.publications) < 60
    assert engine._quota.size == held(engine) <= MOST
    await engine.stop()


async def test_a_rule_with_a_quota_of_its_own_pushes_out_nobody_else(
    engine: MemoryEngine, delivered: Delivered, caplog: pytest.LogCaptureFixture
) -> None:
    few = PublishOptions(history=History(size=5, ttl=60, bytes=8 * KIB))
    other = await engine.publish("other", DATA, LOGGED)
    for number in range(200):
        await engine.publish(f"made-{number}", DATA, few)
    assert held(engine) < 16 * KIB
    read = await engine.history("other", KEEP)
    assert (read.position, len(read.publications)) == (other, 1)
    assert "the bytes of a rule's history" in caplog.text
    await engine.stop()


async def test_empty_logs_count_too(engine: MemoryEngine, delivered: Delivered) -> None:
    for number in range(1000):
        await engine.history(f"asked-{number}", KEEP)
    assert engine._quota.size == held(engine) <= MOST
    await engine.stop()


async def test_logs_whose_time_is_over_are_no_longer_counted(engine: MemoryEngine, delivered: Delivered) -> None:
    for number in range(10):
        await engine.publish(f"made-{number}", DATA, LOGGED)
    clock = engine._clock.__self__  # type: ignore[attr-defined]
    await clock.advance(KEEP.ttl + 2)
    assert (engine._quota.size, len(engine._quota), len(engine._logs)) == (0, 0, 0)
    await engine.stop()


async def test_without_a_limit_nothing_gives_way() -> None:
    engine = MemoryEngine()
    await engine.start("node", Delivered().receiver)
    for number in range(1000):
        await engine.publish(f"made-{number}", DATA, LOGGED)
    assert len(engine._logs) == 1000
    await engine.stop()


async def test_what_gave_way_is_not_in_the_file_either(tmp_path: Path) -> None:
    def make() -> SqliteEngine:
        return SqliteEngine(f"sqlite:///{tmp_path / 'logs.db'}", log_memory=MOST)

    engine = make()
    await engine.start("node", Delivered().receiver)
    first = await engine.publish("old", DATA, LOGGED)
    for number in range(100):
        await engine.publish(f"made-{number}", DATA, LOGGED)
    await engine.stop()
    again = make()
    await again.start("node", Delivered().receiver)
    assert held(again) <= 2 * MOST  # those without publications come back as empty logs
    read = await again.history("old", KEEP, Position(first.epoch, 0))
    assert not read.publications
    await again.stop()


async def test_what_was_revoked_and_which_tickets_were_used_give_way_to_nothing(
    make: Make, engine: MemoryEngine, delivered: Delivered
) -> None:
    await engine.publish(REVOCATIONS, b"revoked", LOGGED)
    await engine.publish(f"{USED_TICKET}1", b"", LOGGED)
    for number in range(200):
        await engine.publish(f"made-{number}", DATA, LOGGED)
    assert len(engine._logs) < 100
    if isinstance(engine, SqliteEngine):
        await engine._expire()  # which forgets in the file what has given way
        await engine.stop()
        engine = make()
        await engine.start("node", Delivered().receiver)
    assert [it.data for it in (await engine.history(REVOCATIONS, KEEP)).publications] == [b"revoked"]
    assert (await engine.publish(f"{USED_TICKET}1", b"", LOGGED)).offset == 2
    await engine.stop()
