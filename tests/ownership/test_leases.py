"""What a node owns: taken by a lease and a fence, renewed, given up in time, released."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from freshet.config import Config
from freshet.engines.memory import MemoryEngine
from freshet.errors import EngineUnavailable, StaleOwner, StoreUnavailable
from freshet.node.node import Node
from freshet.ownership.leases import Leases, NotOwner
from freshet.stores.base import Change
from freshet.stores.memory import MemoryStore
from freshet.testing import ManualClock

TTL = 6.0


class Owner:
    """A node's leases. lost: what it has lost."""

    def __init__(self, engine: MemoryEngine, store: MemoryStore) -> None:
        self.clock = ManualClock()
        self.node = Node(Config(), engine, clock=self.clock)
        self.lost: list[str] = []
        self.leases = Leases(self.node, store, TTL, self.lost.append)


class Pair:
    """Two owners of one engine and one store, each with a clock of its own; the engine's is apart, too."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.engine, self.store = MemoryEngine(clock=self.clock), MemoryStore()
        self.one, self.two = Owner(self.engine, self.store), Owner(self.engine, self.store)

    async def advance(self, seconds: float, *owners: Owner) -> None:
        for _ in range(int(seconds * 4)):
            self.clock.now += 0.25
            for owner in owners:
                await owner.clock.advance(0.25)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    it = Pair()
    for owner in (it.one, it.two):
        owner.leases.start()
    yield it
    for owner in (it.one, it.two):
        await owner.leases.stop()


async def test_the_first_owns_it_and_the_other_learns_who(pair: Pair) -> None:
    one, two = pair.one, pair.two
    assert await one.leases.acquire("a") == one.node.id
    assert await two.leases.acquire("a") == one.node.id
    fence = one.leases.fence("a")
    assert fence > 0
    with pytest.raises(NotOwner):
        two.leases.fence("a")
    assert await one.leases.acquire("a") == one.node.id
    assert one.leases.fence("a") == fence
    await one.leases.release("a")
    with pytest.raises(NotOwner):
        one.leases.fence("a")
    assert await two.leases.acquire("a") == two.node.id
    assert two.leases.fence("a") > fence
    assert one.lost == [], "it was released"


async def test_many_that_ask_at_once_take_it_once(pair: Pair) -> None:
    found = await asyncio.gather(*(pair.one.leases.acquire("a") for _ in range(20)))
    assert set(found) == {pair.one.node.id}
    assert pair.one.leases.fence("a") == 1


async def test_what_is_renewed_is_kept_for_as_long_as_its_node_is_there(pair: Pair) -> None:
    await pair.one.leases.acquire("a")
    await pair.advance(5 * TTL, pair.one, pair.two)
    assert pair.one.leases.fence("a") == 1
    assert await pair.two.leases.acquire("a") == pair.one.node.id


async def test_who_was_paused_knows_by_its_own_clock_that_it_may_not_act_until_it_has_renewed(pair: Pair) -> None:
    one, two = pair.one, pair.two
    await one.leases.acquire("a")
    one.clock.now += TTL * 2 / 3  # the process stood still, and nothing was renewed
    pair.clock.now += TTL * 2 / 3
    assert await two.leases.acquire("a") == one.node.id, "the lease has not ended yet: nobody acts"
    with pytest.raises(NotOwner, match="not renewed in time"):
        one.leases.fence("a")
    await pair.advance(TTL / 12, one)
    assert one.leases.fence("a") == 1
    assert one.lost == []


async def test_who_asks_before_the_renewal_renews_and_does_not_begin_anew(pair: Pair) -> None:
    one = pair.one
    await one.leases.acquire("a")
    one.clock.now += TTL * 2 / 3
    pair.clock.now += TTL * 2 / 3
    assert await one.leases.acquire("a") == one.node.id
    assert one.leases.fence("a") == 1
    assert one.lost == []


async def test_who_was_paused_for_so_long_that_another_has_taken_over_loses_it(pair: Pair) -> None:
    one, two = pair.one, pair.two
    await one.leases.acquire("a")
    await one.leases.acquire("b")
    for clock in (one.clock, pair.clock):
        clock.now += TTL + 1
    assert await two.leases.acquire("a") == two.node.id
    with pytest.raises(NotOwner):
        one.leases.fence("a")
    await one.clock.advance(TTL / 12)
    assert one.lost == ["a"]
    assert one.leases.fence("b") > 0, "nobody wanted it"
    assert await one.leases.acquire("a") == two.node.id


async def test_who_had_lost_it_meanwhile_and_gets_it_back_begins_anew(pair: Pair) -> None:
    one, two = pair.one, pair.two
    await one.leases.acquire("a")
    for clock in (one.clock, pair.clock):
        clock.now += TTL + 1
    await two.leases.acquire("a")
    await two.leases.release("a")
    assert await one.leases.acquire("a") == one.node.id
    assert one.lost == ["a"], "what it has in memory may be old"
    assert one.leases.fence("a") == 3


async def test_ten_thousand_are_renewed_in_one_request_at_a_time(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    one, renew, asked = pair.one, pair.engine.renew_leases, list[int]()

    async def counted(owner: str, leases: dict[str, int], ttl: float) -> set[str]:
        asked.append(len(leases))
        return await renew(owner, leases, ttl)

    monkeypatch.setattr(pair.engine, "renew_leases", counted)
    for number in range(10_000):
        await one.leases.acquire(f"r{number}")
    await pair.advance(2 * TTL, one)
    assert set(asked) == {10_000}
    assert len(asked) <= 6
    assert len(one.leases) == 10_000


async def test_what_is_wanted_again_before_it_was_released_is_not_released(pair: Pair) -> None:
    one = pair.one
    for name in ("a", "b"):
        await one.leases.acquire(name)
        one.leases.release_soon(name)
    fence = one.leases.fence("a")
    for _ in range(10):
        await asyncio.sleep(0)
    assert (one.leases.fence("a"), one.lost) == (fence, [])
    with pytest.raises(NotOwner):
        one.leases.fence("b")


async def test_a_clock_that_stands_still_is_no_danger_to_what_is_kept(pair: Pair) -> None:
    one, two = pair.one, pair.two
    await one.leases.acquire("a")
    old = one.leases.fence("a")
    await pair.advance(TTL + 1, two)  # not for one, which believes that no time has passed
    assert await two.leases.acquire("a") == two.node.id
    assert one.leases.fence("a") == old
    with pytest.raises(StaleOwner):
        await pair.store.commit("a", old, Change({"k": b"stale"}))
    await pair.store.commit("a", two.leases.fence("a"), Change({"k": b"new"}))


async def test_who_finds_that_its_lease_is_anothers_gives_it_up(pair: Pair) -> None:
    one, two = pair.one, pair.two
    await one.leases.acquire("a")
    await one.leases.acquire("b")
    pair.engine._leases.pop("a")
    assert await two.leases.acquire("a") == two.node.id
    await pair.advance(TTL / 2, one, two)
    assert one.lost == ["a"]
    assert one.leases.fence("b")
    assert two.leases.fence("a")


async def test_an_engine_that_is_away_for_a_moment_costs_nothing_and_for_longer_what_is_owned(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = pair.one
    await one.leases.acquire("a")
    renew = pair.engine.renew_leases

    async def away(*arguments: Any) -> None:
        raise EngineUnavailable("away")

    monkeypatch.setattr(pair.engine, "renew_leases", away)
    await pair.advance(TTL * 0.4, one)
    monkeypatch.setattr(pair.engine, "renew_leases", renew)
    await pair.advance(TTL, one)
    assert one.leases.fence("a") == 1
    monkeypatch.setattr(pair.engine, "renew_leases", away)
    await pair.advance(TTL * 1.1, one)
    assert one.lost == ["a"]
    with pytest.raises(NotOwner):
        one.leases.fence("a")


async def test_a_store_that_is_away_lets_another_node_try(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = pair.one, pair.two

    async def away(*arguments: Any) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(pair.store, "claim", away)
        with pytest.raises(StoreUnavailable):
            await one.leases.acquire("a")
    assert len(one.leases) == 0
    assert await two.leases.acquire("a") == two.node.id


async def test_who_takes_too_long_to_take_over_does_not_become_the_owner(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair.one, pair.two
    claim = pair.store.claim

    async def slowly(room: str, fence: int) -> int:
        one.clock.now += TTL
        pair.clock.now += TTL  # the lease has ended by then, and is taken anew
        return await claim(room, fence)

    with monkeypatch.context() as patch:
        patch.setattr(pair.store, "claim", slowly)
        with pytest.raises(EngineUnavailable, match="set rooms"):
            await one.leases.acquire("a")
    assert await two.leases.acquire("a") == two.node.id
    assert len(one.leases) == 0


async def test_a_take_over_that_is_slow_but_within_its_lease_is_renewed_and_done(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, claim = pair.one, pair.store.claim

    async def slowly(room: str, fence: int) -> int:
        one.clock.now += TTL * 0.8
        pair.clock.now += TTL * 0.8
        return await claim(room, fence)

    monkeypatch.setattr(pair.store, "claim", slowly)
    assert await one.leases.acquire("a") == one.node.id
    assert one.leases.fence("a") == 1, "claimed once"
    assert await pair.two.leases.acquire("a") == one.node.id


async def test_who_stops_releases_all_and_takes_nothing_any_more(pair: Pair) -> None:
    one, two = pair.one, pair.two
    for name in ("a", "b"):
        await one.leases.acquire(name)
    await one.leases.stop()
    for name in ("a", "b"):
        assert await two.leases.acquire(name) == two.node.id
    with pytest.raises(EngineUnavailable, match="stops"):
        await one.leases.acquire("c")
