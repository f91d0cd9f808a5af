"""The Redis engine when Redis dies, stands still, forgets, is full, or is used by strangers."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from freshet.engines.redis.engine import RedisEngine
from freshet.errors import EngineUnavailable
from freshet.model.events import Left
from freshet.model.log import Position, PublishOptions
from tests.contracts.engine import ALICE, KEEP, LOGGED, Delivered
from tests.engines.redis.node import node_at, payloads, succeeds
from tests.tools.patience import eventually, seconds
from tests.tools.redis import Redis, redis
from tests.tools.serving import HOST, free_port

TIMEOUT = seconds(1)


@pytest.fixture
def server() -> Iterator[Redis]:
    with redis() as it:
        yield it


async def test_killed_where_it_writes_before_it_answers_it_comes_back_with_all_that_was_acknowledged() -> None:
    with redis("--appendonly", "yes", "--appendfsync", "always") as server:
        async with node_at(f"{server.url}?timeout=60") as (engine, delivered):
            await engine.subscribe("a", KEEP)
            for index in range(3):
                last = await engine.publish("a", b"%d" % index, LOGGED)
            await delivered.count(3)
            server.kill()
            async with asyncio.timeout(seconds(10)):  # long before the time of a call is over
                assert not await succeeds(engine.publish("a", b"lost", LOGGED))
            server.start()
            await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
            stream = await engine.history("a", KEEP)
            assert stream.position == last
            assert [it.data for it in stream.publications] == [b"0", b"1", b"2"]
            assert await engine.publish("a", b"3", LOGGED) == Position(last.epoch, 4)
            await delivered.count(4)


async def test_killed_where_it_may_have_lost_the_last_second_it_comes_back_with_another_epoch() -> None:
    with redis("--appendonly", "yes", "--appendfsync", "everysec") as server:
        async with node_at(server.url) as (engine, delivered):
            before = await engine.publish("a", b"1", LOGGED)
            server.kill()
            server.start()
            await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
            assert (await engine.history("a", KEEP)).position.epoch != before.epoch


async def test_killed_without_a_file_it_comes_back_with_another_epoch(server: Redis) -> None:
    async with node_at(server.url) as (engine, delivered):
        await engine.subscribe("a", KEEP)
        before = await engine.publish("a", b"1", LOGGED)
        await delivered.count(1)
        server.kill()
        server.start()
        await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
        after = await engine.publish("a", b"2", LOGGED)
        assert after.offset == 1
        assert after.epoch != before.epoch
        await delivered.count(2)


async def test_killed_and_back_with_an_older_copy_no_offset_of_an_epoch_is_given_twice(server: Redis) -> None:
    async with node_at(server.url) as (engine, delivered):
        await engine.publish("a", b"1", LOGGED)
        server.cli("SAVE")
        before = await engine.publish("a", b"2", LOGGED)
        server.kill()
        server.start()
        await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
        after = await engine.publish("a", b"another 2", LOGGED)
        assert after.offset == before.offset == 2
        assert after.epoch != before.epoch
        assert not (await engine.history("a", KEEP, before)).reaches(before, -1, reverse=False)


async def test_while_it_is_away_every_call_fails_at_once_and_says_why(server: Redis) -> None:
    async with node_at(server.url) as (engine, _):
        server.kill()
        await eventually(lambda: fails(engine.presence("a")), 5, "the loss of the line")
        for call in (
            lambda: engine.publish("a", b"1", LOGGED),
            lambda: engine.publish("a", b"1", PublishOptions()),
            lambda: engine.history("a", KEEP),
            lambda: engine.subscribe("a", KEEP),
            lambda: engine.remove_history("a"),
            lambda: engine.presence("a"),
            lambda: engine.set_presence("a", "a1", ALICE),
            lambda: engine.tell(None, b"1"),
        ):
            with pytest.raises(EngineUnavailable, match="Redis is away"):
                await call()
        await engine.unsubscribe("a")


async def fails(call: object) -> bool:
    return not await succeeds(call)


async def test_when_it_stands_still_for_two_seconds_calls_wait_and_nothing_is_lost(server: Redis) -> None:
    async with node_at(server.url) as (engine, delivered):
        await engine.subscribe("a", KEEP)
        server.pause()
        calls = [asyncio.ensure_future(engine.publish("a", b"%d" % index, LOGGED)) for index in range(100)]
        await asyncio.sleep(2)  # the time itself is what is tested
        assert not any(call.done() for call in calls)
        server.go_on()
        assert [position.offset for position in await asyncio.gather(*calls)] == list(range(1, 101))
        await delivered.count(100)
        assert delivered.suspicions == []


async def test_when_it_stands_still_for_longer_calls_fail_in_time_and_it_comes_back(server: Redis) -> None:
    async with node_at(f"{server.url}?timeout={TIMEOUT}") as (engine, delivered):
        await engine.subscribe("a", KEEP)
        server.pause()
        began = time.monotonic()
        with pytest.raises(EngineUnavailable, match=f"no answer within {TIMEOUT:g} s"):
            await engine.publish("a", b"1", PublishOptions(history=KEEP, idempotency_key="1"))
        assert time.monotonic() - began < 3 * TIMEOUT
        server.go_on()
        await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
        # Whether it was published before, nobody could know; with its key it is published once.
        again = await engine.publish("a", b"1", PublishOptions(history=KEEP, idempotency_key="1"))
        assert again.offset == 1
        assert len((await engine.history("a", KEEP)).publications) == 1


async def test_a_node_that_hears_nothing_of_a_silent_server_notices(server: Redis) -> None:
    async with node_at(f"{server.url}?timeout={TIMEOUT}") as (engine, delivered):
        await engine.subscribe("a", KEEP)
        server.pause()
        await eventually(lambda: engine._servers.link(0).is_up is False, 5, "the loss of the line")
        server.go_on()
        await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")


async def test_after_its_line_was_cut_it_hears_again_and_the_log_has_what_it_missed(server: Redis) -> None:
    async with node_at(server.url) as (engine, delivered), node_at(server.url, "other") as (other, _):
        names = [f"channel-{index}" for index in range(2500)]
        await asyncio.gather(*(engine.subscribe(name, KEEP) for name in names))
        for _ in range(3):
            delivered.suspicions.clear()
            server.cli("CLIENT", "KILL", "TYPE", "pubsub")
            await other.publish("channel-7", b"missed?", LOGGED)
            await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
        delivered.clear()
        await other.publish("channel-7", b"after", LOGGED)
        await eventually(lambda: b"after" in payloads(delivered), 5, "what was published after the gap check")
        missed = (await engine.history("channel-7", KEEP)).publications
        assert [it.data for it in missed] == [b"missed?"] * 3 + [b"after"]
        assert server.cli("PUBSUB", "NUMSUB", "freshet:{channel-2499}:flow").split() == [
            "freshet:{channel-2499}:flow",
            "1",
        ]


async def test_it_does_not_listen_again_to_what_it_left_while_it_was_away(server: Redis) -> None:
    async with node_at(server.url) as (engine, delivered):
        await engine.subscribe("a", KEEP)
        await engine.subscribe("b", KEEP)
        server.kill()
        await eventually(lambda: fails(engine.presence("a")), 5, "the loss of the line")
        await engine.unsubscribe("a")
        server.start()
        await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
        subscribed = server.cli("PUBSUB", "CHANNELS").split()
        assert "freshet:{b}:flow" in subscribed
        assert "freshet:{a}:flow" not in subscribed


@pytest.mark.parametrize("text", [b"", b"p", b"p1:e:", b"px:e:\x92", b"j{", b"\xff" * 100, b"\x91" * 5000, b"p:" * 999])
async def test_what_a_stranger_publishes_on_its_topics_is_ignored_and_counted(server: Redis, text: bytes) -> None:
    async with node_at(server.url) as (engine, delivered):
        await engine.subscribe("a", KEEP)
        for topic in ("freshet:{a}:flow", "freshet:{node:node}", "freshet:{nodes}"):
            server.cli("-x", "PUBLISH", topic, stdin=text)
        await engine.publish("a", b"1", LOGGED)
        await delivered.count(1)
        await eventually(lambda: engine.ignored == 3, 5, "three messages of a stranger")
        assert delivered.control == []


async def test_a_full_redis_is_told_in_clear_words_and_goes_on_when_there_is_room(server: Redis) -> None:
    async with node_at(server.url) as (engine, delivered):
        await engine.subscribe("a", KEEP)
        first = await engine.publish("a", b"1", LOGGED)
        server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
        server.cli("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(EngineUnavailable, match="Redis has no memory left, raise its maxmemory"):
            await engine.publish("a", b"2", LOGGED)
        server.cli("CONFIG", "SET", "maxmemory", "0")
        assert await engine.publish("a", b"2", LOGGED) == Position(first.epoch, 2)
        await delivered.count(2)


async def test_it_goes_on_when_redis_has_forgotten_the_scripts(server: Redis) -> None:
    async with node_at(server.url) as (engine, delivered):
        await engine.subscribe("a", KEEP)
        server.cli("SCRIPT", "FLUSH")
        await asyncio.gather(*(engine.publish("a", b"1", LOGGED) for _ in range(20)))
        await delivered.count(20)


async def test_what_a_dead_node_left_behind_leaves_once_after_the_presence_time(
    server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freshet.engines.presence_sweep.SWEEP", 0.1)
    async with (
        node_at(server.url, "one", presence_time=0.5) as (one, told_one),
        node_at(server.url, "two", presence_time=0.5) as (two, told_two),
    ):
        await one.subscribe("a", KEEP)
        await two.subscribe("a", KEEP)
        async with node_at(server.url, "dead", presence_time=0.5) as (dead, _):
            await dead.set_presence("a", "a1", ALICE)
        await eventually(lambda: Left("a", ALICE) in told_one and Left("a", ALICE) in told_two, 10, "its leaving")
        assert await one.presence("a") == {}
        assert [type(event).__name__ for event in told_one] == ["Joined", "Left"]
        await eventually(lambda: not one._sweeping and not two._sweeping, 10, "nothing left to look at")


async def test_more_than_a_thousand_whose_time_is_over_are_gone_for_whoever_reads(server: Redis) -> None:
    async with node_at(server.url, presence_time=0.05) as (engine, _):
        await asyncio.gather(*(engine.set_presence("a", f"a{index}", ALICE) for index in range(2500)))
        await eventually(lambda: empty(engine), 5, "an empty channel")


async def empty(engine: RedisEngine) -> bool:
    return await engine.presence("a") == {}


async def test_too_many_calls_that_wait_are_refused(server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freshet.engines.redis.batch.BACKLOG_BYTES", 200_000)
    async with node_at(server.url) as (engine, _):
        server.pause()
        calls = [asyncio.ensure_future(engine.publish("a", b"x" * 1000, LOGGED)) for _ in range(1000)]
        done, waiting = await asyncio.wait(calls, timeout=seconds(0.5))
        assert len(waiting) < 200
        assert all("does not keep up" in str(call.exception()) for call in done)
        server.go_on()
        await asyncio.gather(*waiting)


async def test_calls_that_wait_when_the_engine_stops_fail(server: Redis) -> None:
    async with node_at(server.url) as (engine, _):
        server.pause()
        calls = [asyncio.ensure_future(engine.publish("a", b"1", LOGGED)) for _ in range(10)]
        await asyncio.sleep(0)
        await engine.stop()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(answer) for answer in answers} == {EngineUnavailable}
        server.go_on()
        with pytest.raises(EngineUnavailable, match="stopped"):
            await engine.publish("a", b"1", LOGGED)


async def test_without_a_server_it_does_not_begin_and_says_where_it_looked() -> None:
    port = free_port()
    engine = RedisEngine(f"redis://user:secret@{HOST}:{port}")
    with pytest.raises(EngineUnavailable, match=f"Redis cannot be reached: {HOST}:{port}") as error:
        await engine.start("node", Delivered().receiver)
    assert "secret" not in str(error.value)


async def test_a_wrong_password_is_told_without_it() -> None:
    with redis("--requirepass", "right") as server:
        for url, told in (
            (f"redis://:wrong-secret@{HOST}:{server.port}", "check the user and the password"),
            (server.url, "check the user and the password"),
        ):
            with pytest.raises(EngineUnavailable, match=told) as error:
                await RedisEngine(url).start("node", Delivered().receiver)
            assert "wrong-secret" not in str(error.value)
        async with node_at(f"redis://:right@{HOST}:{server.port}/3?prefix=mine") as (engine, _):
            await engine.publish("a", b"1", LOGGED)


async def test_a_master_that_became_a_replica_takes_nothing_more_not_even_what_has_no_log(server: Redis) -> None:
    """To PUBLISH a replica says yes, and whoever is at the new master hears nothing of it."""
    with redis() as other:
        async with node_at(server.url) as (engine, delivered):
            await engine.subscribe("a", None)
            server.cli("REPLICAOF", HOST, str(other.port))

            async def refused() -> bool:
                return not await succeeds(engine.publish("a", b"lost", PublishOptions()))

            await eventually(refused, 10, "a refusal")
            assert await refused()
            server.cli("REPLICAOF", "NO", "ONE")
            await eventually(lambda: succeeds(engine.publish("a", b"back", PublishOptions())), 10, "it to come back")
            await eventually(lambda: payloads(delivered)[-1:] == [b"back"], 5, "what is published now")


async def test_while_a_function_blocks_the_process_no_call_counts_as_unanswered(server: Redis) -> None:
    async with node_at(f"{server.url}?timeout=0.5") as (engine, _):
        calls = [asyncio.ensure_future(engine.publish("a", b"%d" % number, LOGGED)) for number in range(20)]
        await asyncio.sleep(0)
        time.sleep(1.5)  # what somebody's function does
        assert [position.offset for position in await asyncio.gather(*calls)] == [*range(1, 21)]
