"""What users' own tests are given: clients without a network, a clock that a test turns, and a fixture."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from freshet import ConfigError, Disconnect, Freshet, History, Position, Refusal, Session, Welcome
from freshet.config import Config
from freshet.testing import ManualClock
from tests.tools.nats import nats
from tests.tools.patience import seconds
from tests.tools.plugins import USERS
from tests.tools.redis import redis

SECRET = "a secret for tests, thirty-two bytes"
YEAR = 365 * 24 * 3600


def application(**options: Any) -> Freshet:
    live = Freshet(secret=SECRET, environment={}, **options)
    chat = live.channel(
        "chat:{room}", history=History(size=3, ttl=60), presence=True, join_leave=True, publish="client"
    )
    live.channel("quiet")

    @chat.on_subscribe
    async def may_join(session: Session, room: str) -> None:
        if room == "secret" and "member" not in session.claims:
            raise Refusal.permission_denied("not a member")

    @chat.on_publish
    async def sign(session: Session, data: dict[str, Any], room: str) -> dict[str, Any]:
        return {**data, "from": session.user}

    @live.rpc("double")
    async def double(session: Session, data: int) -> int:
        return data * 2

    return live


async def test_what_one_client_publishes_another_receives() -> None:
    live = application()
    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        answer = await alice.subscribe("chat:1")
        assert (answer.recovered, answer.missed) == (None, [])
        await bob.publish("chat:1", {"text": "hello"})
        received = await alice.receive()
        assert received.data == {"text": "hello", "from": "bob"}
        assert received.offset == 1
        assert received.info is not None
        assert received.info["user"] == "bob"
        await bob.expect_nothing()
        assert [it.data for it in await alice.history("chat:1")] == [received.data]
        assert [it["user"] for it in (await alice.presence("chat:1")).values()] == ["alice"]
        assert await alice.rpc("double", 21) == 42


async def test_who_was_away_recovers() -> None:
    live = application()
    async with live.test_client("alice") as alice:
        await alice.subscribe("chat:1")
        await live.publish("chat:1", 1)
        assert (await alice.receive()).data == 1
        await alice.disconnect()
        await live.publish("chat:1", 2)
        await live.publish("chat:1", 3)
        await alice.connect()
        assert [(await alice.receive()).data for _ in range(2)] == [2, 3]
        await alice.reconnect()
        await alice.expect_nothing()
        for number in range(5):
            await live.publish("chat:1", number)
        missed = await alice.subscribe("quiet")
        assert missed.position == Position("", 0)


async def test_what_is_lost_is_said_to_be_lost() -> None:
    live = application()
    async with live.test_client("alice") as alice:
        first = await live.publish("chat:1", 1)
        for number in range(5):
            await live.publish("chat:1", number)
        answer = await alice.subscribe("chat:1", since=first)
        assert (answer.recovered, answer.missed) == (False, [])


async def test_a_refusal_and_a_disconnect_are_raised() -> None:
    live = application()
    async with live.test_client("alice") as alice, live.test_client("bob", member=True) as bob:
        with pytest.raises(Refusal, match="not a member") as refusal:
            await alice.subscribe("chat:secret")
        assert refusal.value.code == 103
        await bob.subscribe("chat:secret")
        await live.disconnect("alice", Disconnect(4501, "enough"))
        why = await alice.closed()
        assert (why.code, why.reason) == (4501, "enough")
        with pytest.raises(Disconnect):
            await alice.publish("chat:1", {})
    with pytest.raises(Disconnect) as disconnect:
        async with live.test_client(token="not a token"):
            pass
    assert disconnect.value.code == 3500


async def test_events_tell_who_comes_and_what_the_server_does() -> None:
    live = application()

    @live.on_connect
    async def greet(session: Session, data: Any) -> Welcome:
        return Welcome(data={"hello": data}, channels=["chat:lobby"])

    async with live.test_client("alice", data="me") as alice:
        assert alice.data == {"hello": "me"}
        assert (await alice.event("subscribe")).channel == "chat:lobby"
        async with live.test_client("bob"):
            while (joined := await alice.event("join")).data["info"]["user"] != "bob":
                pass
        assert (await alice.event("leave")).data["info"] == joined.data["info"]
        await live.unsubscribe("alice", "chat:lobby")
        assert (await alice.event("unsubscribe")).channel == "chat:lobby"


async def test_a_wait_in_vain_ends_and_says_what_came_instead() -> None:
    live = application()
    async with live.test_client("alice") as alice:
        await alice.subscribe("chat:1")
        await alice.subscribe("chat:2")
        await live.publish("chat:2", "here")
        with pytest.raises(TimeoutError, match=r"waited 0\.05 s for a publication in 'chat:1'; .*'here'"):
            await alice.receive("chat:1", within=0.05)
        with pytest.raises(AssertionError, match="here"):
            await alice.expect_nothing()
        with pytest.raises(TimeoutError, match="the event 'message'"):
            await alice.event("message", within=0.05)


async def test_nothing_is_left_behind() -> None:
    live = application()
    for _ in range(2):  # it can be started again, and remembers nothing
        async with live.test_client("alice") as alice:
            await alice.subscribe("chat:1")
            await live.publish("chat:1", 1)
            assert len(await alice.history("chat:1")) == 1
        assert live.statistics().clients == 0
        assert live.statistics().subscriptions == 0


async def test_the_application_runs_until_the_last_client_has_left_however_they_came() -> None:
    live = application()
    first, second = live.test_client("alice"), live.test_client("bob")
    alice, bob = await asyncio.gather(first.__aenter__(), second.__aenter__())
    await alice.__aexit__(None, None, None)
    await bob.subscribe("chat:1")
    await live.publish("chat:1", 1)
    assert (await bob.receive()).data == 1
    await bob.__aexit__(None, None, None)
    assert live.statistics().clients == 0


async def test_a_client_joins_an_application_that_runs_already() -> None:
    live = application()
    api = FastAPI(lifespan=live.lifespan)
    api.mount("/live", live)
    async with api.router.lifespan_context(api):
        async with live.test_client("alice") as alice:
            await alice.subscribe("chat:1")
        await live.publish("chat:1", 1)
        assert len((await live.history("chat:1")).publications) == 1


async def test_without_a_secret_it_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match="FRESHET_SECRET"):
        Freshet(environment={}).test_client("alice")


# ----------------------------------------------------------------------------------------------------------- the clock


async def test_a_token_expires_when_the_clock_is_turned(freshet_clock: ManualClock) -> None:
    live = application(clock=freshet_clock)
    token = live.token("alice", expires_in=60)
    async with live.test_client(token=token) as alice:
        await freshet_clock.advance(30)
        assert await alice.rpc("double", 1) == 2
        await alice.refresh(live.token("alice", expires_in=600))
        await freshet_clock.advance(500)
        assert await alice.rpc("double", 1) == 2
        await freshet_clock.advance(200)
        assert (await alice.closed()).code == 3005
    with pytest.raises(Refusal) as expired:
        async with live.test_client(token=token):
            pass
    assert expired.value.code == 109


async def test_a_subscription_ends_when_its_token_did(freshet_clock: ManualClock) -> None:
    live = application(clock=freshet_clock)
    token = live.token("alice", channel="chat:1", expires_in=10)
    async with live.test_client("alice") as alice:
        await freshet_clock.advance(100)
        await alice.subscribe("chat:1", token=live.token("alice", channel="chat:1", expires_in=5))
        await freshet_clock.advance(4)
        assert await alice.presence("chat:1")
        await freshet_clock.advance(25)
        with pytest.raises(Refusal):  # it may be refreshed now, and nothing else
            await alice.presence("chat:1")
        await freshet_clock.advance(3)  # 5 seconds, 25 in which it may be refreshed, and one of the wheel
        assert (await alice.event("unsubscribe")).data["code"] == 2501
        with pytest.raises(Refusal):
            await alice.subscribe("chat:1", token=token)


async def test_history_and_keys_expire_when_the_clock_is_turned(freshet_clock: ManualClock) -> None:
    live = application(clock=freshet_clock)
    async with live.test_client("alice") as alice:
        await alice.subscribe("chat:1")
        await live.publish("chat:1", 1, idempotency_key="once")
        await live.publish("chat:1", 1, idempotency_key="once")
        assert len(await alice.history("chat:1")) == 1
        await freshet_clock.advance(61)
        assert await alice.history("chat:1") == []
        await freshet_clock.advance(300)
        await live.publish("chat:1", 1, idempotency_key="once")
        assert len(await alice.history("chat:1")) == 1


@pytest.mark.timeout(60)  # not an hour
async def test_time_that_stands_still_takes_no_time(freshet_clock: ManualClock) -> None:
    live = application(clock=freshet_clock)
    async with live.test_client("alice", expires_in=None) as alice:
        await alice.subscribe("chat:1")
        await freshet_clock.advance(3600)  # heartbeats are answered, presence goes on
        assert len(await alice.presence("chat:1")) == 1


def test_a_timer_that_was_cancelled_does_not_run() -> None:
    clock, rung = ManualClock(0.0), []
    clock.call_later(5, lambda: rung.append("first"))
    clock.call_later(3, lambda: rung.append("never")).cancel()
    asyncio.run(clock.advance(4.9))
    assert rung == []
    asyncio.run(clock.advance(0.1))
    assert rung == ["first"]
    assert clock.wall() == clock.monotonic() == 5


# ---------------------------------------------------------------------------------------------------- users' own tests

USERS_TEST = """
import pytest
from freshet import Freshet

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it(freshet_clock, anyio_backend):
    live = Freshet(dev=True, clock=freshet_clock)
    async with live.test_client("alice") as alice:
        await alice.subscribe("a")
        await live.publish("a", [1])
        assert (await alice.receive()).data == [1]
"""


def test_it_needs_no_plugin_of_its_own_for_asyncio(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(USERS_TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, **USERS},
        capture_output=True,
        text=True,
        timeout=seconds(30),
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout


@contextmanager
def engine_at(engine: str, folder: Path) -> Iterator[str]:
    """The URL of an engine of its own, until the block ends."""
    if engine == "redis":
        with redis() as broker:
            yield broker.url
    elif engine == "nats":
        with nats() as broker:
            yield broker.url
    else:
        yield f"sqlite:///{folder}/freshet.db" if engine == "sqlite" else engine


@pytest.mark.parametrize("engine", ["memory://", "sqlite", "redis", "nats"])
def test_one_application_runs_in_one_event_loop_after_another(engine: str, tmp_path: Path) -> None:
    async def published() -> int:
        async with live.test_client("alice") as alice:
            await alice.subscribe("chat:1")
            await alice.publish("chat:1", {})
            return (await alice.receive()).offset

    with engine_at(engine, tmp_path) as url:
        live = application(config=Config(engine=url))
        offsets = [asyncio.run(published()) for _ in range(3)]
    assert offsets == ([1, 1, 1] if engine == "memory://" else [1, 2, 3])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python has no eager tasks before 3.12")
@pytest.mark.parametrize("engine", ["memory://", "sqlite", "redis", "nats"])
async def test_it_works_where_tasks_begin_at_once(engine: str, tmp_path: Path) -> None:
    factory = getattr(asyncio, "eager_task_factory", None)
    with engine_at(engine, tmp_path) as url:
        live = application(config=Config(engine=url))
        asyncio.get_running_loop().set_task_factory(factory)
        try:
            async with live.test_client("alice") as alice, live.test_client("bob") as bob:
                await alice.subscribe("chat:1")
                for number in range(10):
                    await bob.publish("chat:1", {"number": number})
                    assert (await alice.receive()).data == {"number": number, "from": "bob"}
                positions = await asyncio.gather(*(live.publish("chat:2", number) for number in range(10)))
                assert [position.offset for position in positions] == [*range(1, 11)]
        finally:
            asyncio.get_running_loop().set_task_factory(None)


async def test_two_applications_in_one_process_share_nothing() -> None:
    one, two = application(), application()
    async with one.test_client("alice") as alice, two.test_client("bob") as bob:
        await alice.subscribe("chat:1")
        await bob.subscribe("chat:1")
        await bob.publish("chat:1", {"text": "bob's"})
        await alice.publish("chat:1", {"text": "alice's"})
        assert (await alice.receive()).data == {"text": "alice's", "from": "alice"}
        assert (one.statistics().clients, two.statistics().clients) == (1, 1)


async def test_a_clock_that_is_set_sends_nobody_away() -> None:
    class Set(ManualClock):
        """Whose time of day is set, as that of a machine without a battery when it finds the network."""

        ahead = 0.0

        def wall(self) -> float:
            return self.now + self.ahead

    clock = Set()
    live = application(clock=clock)
    async with live.test_client("alice", expires_in=None) as alice:
        await alice.subscribe("chat:1")
        for ahead in (10 * YEAR, -10 * YEAR, 0.0):
            clock.ahead = ahead
            await clock.advance(200)
            assert list(await live.presence("chat:1")) == [alice.id]
            await alice.publish("chat:1", {})
            assert (await alice.receive()).data == {"from": "alice"}
