"""The wall clock is set, by an hour, while a node runs: what goes by how long something lasts does not notice."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from freshet import Disconnect, Freshet, History, Refusal
from freshet.config import Config, Rates
from freshet.config.shapes import Rate
from tests.tools.clocks import SetClock

SECRET = "a secret for tests, thirty-two bytes"
HOUR = 3600.0
PING = 25.0  # seconds between heartbeats

jumps = pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=["memory", "sqlite"])
async def live(request: pytest.FixtureRequest, clock: SetClock, tmp_path: Path) -> AsyncIterator[Freshet]:
    """The brokers go by clocks of their own."""
    engine = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'log.db'}"
    live = Freshet(secret=SECRET, environment={}, config=Config(engine=engine), clock=clock)
    live.channel("log", history=History(size=100, ttl=600), presence=True, publish="subscriber")
    async with live.lifespan():
        yield live


@jumps
async def test_clients_stay_present_and_miss_nothing(live: Freshet, clock: SetClock, jump: float) -> None:
    tokens = [live.token(user, expires_in=3 * HOUR) for user in ("alice", "bob")]
    async with live.test_client(token=tokens[0]) as alice, live.test_client(token=tokens[1]) as bob:
        for client in (alice, bob):
            await client.subscribe("log")
        await bob.publish("log", 1)
        await alice.disconnect()
        await bob.publish("log", 2)
        clock.ahead += jump
        await bob.publish("log", 3)
        await alice.connect()
        assert [(await alice.receive()).data for _ in range(3)] == [1, 2, 3]
        await clock.advance(3 * PING)
        assert set(await bob.presence("log")) == {alice.id, bob.id}
        await bob.publish("log", 4)
        assert (await alice.receive()).data == 4


@jumps
async def test_a_log_and_a_key_last_as_long_as_they_are_to(live: Freshet, clock: SetClock, jump: float) -> None:
    first = await live.publish("log", 1, idempotency_key="once")
    clock.ahead += jump
    assert await live.publish("log", 1, idempotency_key="once") == first
    assert len((await live.history("log")).publications) == 1
    await clock.advance(700)
    assert (await live.history("log")).publications == []


@jumps
async def test_who_does_not_answer_goes_and_who_does_stays(live: Freshet, clock: SetClock, jump: float) -> None:
    tokens = [live.token(user, expires_in=3 * HOUR) for user in ("alice", "bob")]
    async with live.test_client(token=tokens[0]) as alice, live.test_client(token=tokens[1]) as bob:
        clock.ahead += jump
        bob._say = lambda command: None  # type: ignore[method-assign] # its network is gone
        await clock.advance(3 * PING)
        assert (await bob.closed()).code == Disconnect.no_pong().code
        await alice.subscribe("log")


async def test_a_token_goes_by_the_clock_and_so_it_is_refreshed_or_over(live: Freshet, clock: SetClock) -> None:
    async with live.test_client(token=live.token("alice", expires_in=HOUR - 10)) as alice:
        clock.ahead += HOUR
        with pytest.raises(Refusal, match="expired"):  # and within the time of grace
            await alice.subscribe("log")
        await alice.refresh(live.token("alice", expires_in=HOUR))
        await alice.subscribe("log")
        clock.ahead -= HOUR
        await alice.publish("log", 1)
        clock.ahead += 3 * HOUR
        await clock.advance(2 * PING)
        assert (await alice.closed()).code == Disconnect.expired().code


async def test_what_was_revoked_stays_revoked_when_the_clock_is_set_back(live: Freshet, clock: SetClock) -> None:
    token = live.token("alice", expires_in=HOUR)
    await live.revoke(user="alice")
    clock.ahead -= HOUR
    with pytest.raises(Disconnect, match=r"revoked|token"):
        async with live.test_client(token=token):
            pass


@jumps
async def test_a_rate_is_the_same_by_any_clock(clock: SetClock, jump: float) -> None:
    live = Freshet(secret=SECRET, environment={}, config=Config(rates=Rates(channel=Rate(1, 10))), clock=clock)
    live.channel("log", publish="client")
    async with live.lifespan(), live.test_client(token=live.token("alice", expires_in=3 * HOUR)) as alice:
        for _ in range(10):
            await alice.publish("log", 1)
        clock.ahead += jump
        with pytest.raises(Refusal, match="too many"):
            await alice.publish("log", 1)
        await clock.advance(1)
        await alice.publish("log", 1)
