"""The Redis engine when what Redis replies is not what it should be, or cannot be read at all."""

import asyncio
import logging
import re

import pytest

from freshet.engines.base import Receiver
from freshet.engines.redis.engine import RedisEngine
from freshet.errors import EngineUnavailable
from freshet.model.events import Delivery
from tests.contracts.engine import KEEP, LOGGED, Delivered
from tests.engines.redis.node import node_at, payloads, succeeds
from tests.tools.patience import eventually
from tests.tools.redis import Redis, redis, tampering
from tests.tools.serving import HOST

SCRIPT = b"*2\r\n"  # how what the script of a publication replies begins


@pytest.mark.parametrize(
    "reply",
    [
        b"%1\r\n+a\r\n:1\r\n",
        b"%2\r\n+a\r\n:1\r\n+b\r\n%0\r\n",
        b"*0\r\n",
        b"*2\r\n$1\r\ne\r\n$1\r\nx\r\n",
        b"*2\r\n:1\r\n:2\r\n",
        b"~1\r\n+a\r\n",
        b"_\r\n",
        b"#t\r\n",
        b",1.5\r\n",
        b"(12345678901234567890\r\n",
        b"=6\r\ntxt:ab\r\n",
        b"$-1\r\n",
    ],
)
async def test_a_reply_of_another_type_fails_its_call_alone(server: Redis, reply: bytes) -> None:
    async with tampering(server) as between, node_at(between.url) as (engine, delivered):
        await engine.subscribe("a", KEEP)
        between.replace(SCRIPT, reply)
        with pytest.raises(EngineUnavailable, match="Redis replied something unexpected"):
            await engine.publish("a", b"1", LOGGED)
        assert (await engine.publish("a", b"2", LOGGED)).offset == 2
        await delivered.count(2)
        assert delivered.suspicions == []


async def test_a_history_and_presence_of_another_type_fail_their_calls_alone(server: Redis) -> None:
    async with tampering(server) as between, node_at(between.url) as (engine, delivered):
        for call in (lambda: engine.history("a", KEEP), lambda: engine.presence("a")):
            between.replace(b"*3\r\n", b"%1\r\n+a\r\n:1\r\n")
            with pytest.raises(EngineUnavailable, match="Redis replied something unexpected"):
                await call()
            await call()
        assert delivered.suspicions == []


@pytest.mark.parametrize(
    "reply",
    [
        b"%1\r\n*0\r\n+x\r\n",  # what a Python dictionary cannot hold
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"*-7\r\n",
        b"-MOVED nonsense\r\n",
        b"*99999999999999999999\r\n",
    ],
)
async def test_after_a_reply_that_cannot_be_read_it_reconnects(server: Redis, reply: bytes) -> None:
    async with tampering(server) as between, node_at(between.url) as (engine, delivered):
        await engine.subscribe("a", KEEP)
        between.replace(SCRIPT, reply)
        assert not await succeeds(engine.publish("a", b"1", LOGGED))
        await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
        await engine.publish("a", b"2", LOGGED)
        await eventually(lambda: payloads(delivered)[-1:] == [b"2"], 5, "what was published after that")


@pytest.mark.parametrize(
    "push",
    [
        b">0\r\n",
        b">1\r\n%0\r\n",
        b">2\r\n+invalidate\r\n*0\r\n",
        b">3\r\n+message\r\n:1\r\n:2\r\n",
        b">3\r\n*0\r\n*0\r\n*0\r\n",
        b">2\r\n+subscribe\r\n*0\r\n",
        b">3\r\n+subscribe\r\n+b\r\n:1\r\n",
    ],
)
async def test_a_push_of_no_known_kind_changes_nothing(server: Redis, push: bytes) -> None:
    async with tampering(server) as between, node_at(between.url) as (engine, delivered):
        await engine.subscribe("a", KEEP)
        between.say(push)
        for index in range(3):
            await engine.publish("a", b"%d" % index, LOGGED)
        await delivered.count(3)
        assert delivered.suspicions == []


@pytest.mark.parametrize("reply", [b"+nobody asked\r\n", b"%1\r\n+a\r\n:1\r\n", b"-ERR\r\n"])
async def test_after_a_reply_that_nobody_asked_for_it_reconnects_for_replies_are_out_of_step(
    server: Redis, reply: bytes
) -> None:
    async with tampering(server) as between, node_at(between.url) as (engine, delivered):
        await engine.subscribe("a", KEEP)
        between.say(reply)
        await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
        assert (await engine.publish("a", b"1", LOGGED)).offset == 1


async def test_a_server_that_is_still_loading_is_told_in_clear_words_and_the_connection_stays(server: Redis) -> None:
    async with tampering(server) as between, node_at(between.url) as (engine, delivered):
        between.replace(SCRIPT, b"-LOADING Redis is loading the dataset in memory\r\n")
        with pytest.raises(EngineUnavailable, match="Redis is still loading its data"):
            await engine.publish("a", b"1", LOGGED)
        assert (await engine.publish("a", b"2", LOGGED)).offset == 2
        assert delivered.suspicions == []
        between.replace(b"", b"-LOADING Redis is loading the dataset in memory\r\n")
        with pytest.raises(EngineUnavailable, match=r"cannot be reached.*Redis is still loading its data"):
            await RedisEngine(between.url).start("other", Delivered().receiver)


@pytest.mark.parametrize(
    ("begins", "reply"),
    [
        (b"%", b"%1\r\n*0\r\n+x\r\n"),
        (b"%", b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"=", b"_\r\n"),
        (b"=", b"%1\r\n+a\r\n:1\r\n"),
        (b"=", b"*1\r\n*0\r\n"),
    ],
)
async def test_a_server_that_is_no_redis_is_told_at_start_and_tried_again_later(
    server: Redis, begins: bytes, reply: bytes
) -> None:
    """What HELLO replies begins with a percent sign, and what INFO replies with an equals sign."""
    async with tampering(server) as between:
        between.replace(begins, reply)
        with pytest.raises(EngineUnavailable, match=f"cannot be reached: {HOST}:"):
            await RedisEngine(between.url).start("other", Delivered().receiver)
        async with node_at(between.url) as (engine, delivered):
            between.replace(begins, reply)
            server.cli("CLIENT", "KILL", "TYPE", "normal")
            await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
            await engine.publish("a", b"1", LOGGED)


async def test_while_a_restarted_redis_loads_calls_fail_and_it_comes_back_when_it_is_ready() -> None:
    slowly = ("--key-load-delay", "4000", "--loading-process-events-interval-bytes", "1024")
    with redis(*slowly) as server:
        async with node_at(server.url) as (engine, delivered):
            await asyncio.gather(*(engine.publish(f"channel-{index}", b"x" * 500, LOGGED) for index in range(150)))
            server.cli("SAVE")
            server.kill()
            starting = asyncio.ensure_future(asyncio.to_thread(server.start))
            await eventually(lambda: says(engine, "Redis is still loading its data"), 10, "a call that says so")
            await starting
            await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
            assert len((await engine.history("channel-7", KEEP)).publications) == 1


async def says(engine: RedisEngine, text: str) -> bool:
    try:
        await engine.presence("a")
    except EngineUnavailable as error:
        return text in str(error)
    return False


async def test_a_delivery_that_its_node_cannot_bear_is_not_lost_silently(server: Redis) -> None:
    delivered = Delivered()

    def deliver(delivery: Delivery) -> None:
        if not delivered.suspicions:
            raise RuntimeError("of the test")
        delivered.append(delivery)

    engine = RedisEngine(server.url)
    await engine.start("node", Receiver(deliver, delivered.suspicions.append, delivered.control.append))
    await engine.subscribe("a", KEEP)
    await engine.publish("a", b"1", LOGGED)
    await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
    await engine.publish("a", b"2", LOGGED)
    await eventually(lambda: payloads(delivered) == [b"2"], 5, "what was published after that")
    await engine.stop()


async def test_the_log_says_what_was_lost_and_what_happens_next(
    server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "freshet"):
        async with node_at(server.url) as (engine, delivered):
            await engine.subscribe("a", KEEP)
            server.cli("CLIENT", "KILL", "TYPE", "pubsub")
            await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
    place = re.escape(f"{HOST}:{server.port}")
    lost, back = caplog.messages
    assert re.fullmatch(
        rf"redis: connection to {place} lost \(.+\), reconnecting in \d\.\d\d s; 3 subscriptions will be re-checked",
        lost,
    )
    assert re.fullmatch(rf"redis: connected to {place} again after \d+\.\d s; all channels are compared .*", back)
