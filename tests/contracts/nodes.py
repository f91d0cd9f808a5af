"""What every engine that several nodes share has to do, beside `engine.py`.

A test module for such an engine gives the fixture `another`, which makes engines that share one place, not started,
and imports all of this.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest

from freshet.engines.base import Engine, Lease
from freshet.model.events import Joined, Left, Published
from freshet.model.log import NOWHERE, Position, PublishOptions
from freshet.node.bus import Bus
from freshet.node.sharing import Sharing
from freshet.policy.revocations import Revocation
from freshet.runtime.clock import SYSTEM
from freshet.runtime.rates import Rate
from tests.contracts.engine import ALICE, KEEP, LOGGED, Delivered
from tests.contracts.owning import revoking_over
from tests.tools.patience import eventually


class Peer(NamedTuple):
    engine: Engine
    delivered: Delivered

    def offsets(self) -> list[int]:
        return [event.publication.offset for event in self.delivered if isinstance(event, Published)]


@pytest.fixture
async def peers(another: Callable[[], Engine]) -> AsyncIterator[tuple[Peer, Peer]]:
    """Two nodes that have begun, `one` and `two`."""
    one, two = (Peer(another(), Delivered()) for _ in range(2))
    await one.engine.start("one", one.delivered.receiver)
    await two.engine.start("two", two.delivered.receiver)
    yield one, two
    await one.engine.stop()
    await two.engine.stop()


async def test_every_node_that_listens_hears_what_any_publishes(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    await one.engine.subscribe("a", KEEP)
    await two.engine.subscribe("a", KEEP)
    first = await one.engine.publish("a", b"1", LOGGED)
    second = await two.engine.publish("a", b"2", LOGGED)
    assert (first.epoch, first.offset + 1) == second
    for peer in peers:
        await peer.delivered.count(2)
        assert [event.publication.data for event in peer.delivered if isinstance(event, Published)] == [b"1", b"2"]
        assert (await peer.engine.history("a", KEEP)).position == second


async def test_a_node_that_does_not_listen_hears_nothing_and_the_others_go_on(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    for peer in peers:
        await peer.engine.subscribe("a", None)
    await one.engine.unsubscribe("a")
    assert await one.engine.publish("a", b"1", PublishOptions()) == NOWHERE
    await two.delivered.count(1)
    await one.engine.subscribe("b", None)
    await two.engine.publish("b", b"2", PublishOptions())
    [received] = await one.delivered.count(1)
    assert received.channel == "b"


async def test_all_nodes_hear_one_order_of_what_all_publish_at_once(peers: tuple[Peer, Peer]) -> None:
    for peer in peers:
        await peer.engine.subscribe("a", KEEP)
    await asyncio.gather(*(peer.engine.publish("a", b"%d" % index, LOGGED) for index in range(100) for peer in peers))
    for peer in peers:
        await peer.delivered.count(200)
        assert peer.offsets() == list(range(1, 201))
    one, two = peers
    assert list(one.delivered) == list(two.delivered)


async def test_a_key_that_one_node_knows_all_know(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    once = PublishOptions(history=KEEP, idempotency_key="order-7")
    first = await one.engine.publish("a", b"1", once)
    assert await two.engine.publish("a", b"1", once) == first


async def test_what_one_node_removes_is_gone_for_all(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    last = await one.engine.publish("a", b"1", LOGGED)
    await two.engine.remove_history("a")
    assert await one.engine.history("a", KEEP) == ([], last)


async def test_presence_is_that_of_all_nodes(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    for peer in peers:
        await peer.engine.subscribe("a", KEEP)
    await one.engine.set_presence("a", "a1", ALICE)
    assert await two.engine.presence("a") == {"a1": ALICE}
    await one.engine.set_presence("a", "a1", None)
    assert await two.engine.presence("a") == {}
    for peer in peers:
        assert await peer.delivered.count(2) == [Joined("a", ALICE), Left("a", ALICE)]


async def test_one_node_tells_another_or_all_others(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    await one.engine.tell("two", b"\x00 for two")
    await one.engine.tell(None, b"for all")
    await one.engine.tell("nobody", b"for nobody")
    await two.engine.tell("one", b"for one")
    await eventually(lambda: len(two.delivered.control) == 2 and len(one.delivered.control) == 1, 5, "the messages")
    assert two.delivered.control == [b"\x00 for two", b"for all"]
    assert one.delivered.control == [b"for one"]


async def test_a_node_that_ends_leaves_the_others_as_they_are(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    await two.engine.subscribe("a", KEEP)
    last = await one.engine.publish("a", b"1", LOGGED)
    await one.engine.stop()
    assert (await two.engine.publish("a", b"2", LOGGED)) == (last.epoch, last.offset + 1)
    await two.delivered.count(2)


async def test_what_one_node_revokes_all_nodes_know_also_who_missed_the_broadcast(peers: tuple[Peer, Peer]) -> None:
    here, there = (revoking_over(peer.engine, name) for peer, name in zip(peers, ("one", "two"), strict=True))
    await here.start()
    await there.start()
    await here.revoke(Revocation("1", token="t1"))
    one, two = peers
    await eventually(lambda: bool(two.delivered.control), 5, "the broadcast")
    there._bus.receive(two.delivered.control[0])
    await eventually(lambda: there.known.revoked("alice", "t1", None), 5, "the revocation")
    await here.revoke(Revocation("2", user="alice", before=5.0))
    await there._look()
    assert there.known.revoked("alice", None, 5.0)
    assert len(there.known) == 2
    await here.stop()
    await there.stop()
    assert one.delivered.control == []


async def test_what_one_node_lets_through_of_a_rate_of_all_the_others_are_charged_for(peers: tuple[Peer, Peer]) -> None:
    _, two = peers
    buses = [Bus(name, peer.engine) for peer, name in zip(peers, ("one", "two"), strict=True)]
    sharings = [Sharing(bus, SYSTEM, "cluster") for bus in buses]
    here, there = (sharing.buckets("user", Rate(0.001, 20)) for sharing in sharings)
    assert [here.take("alice", SYSTEM.monotonic()) for _ in range(20)] == [0] * 20

    def charged() -> bool:
        while two.delivered.control:
            buses[1].receive(two.delivered.control.pop())
        return len(there) == 1

    await eventually(charged, 5, "the report")
    assert there.take("alice", SYSTEM.monotonic()) > 900
    assert there.take("bob", SYSTEM.monotonic()) == 0
    for each in (*sharings, *buses):
        await each.stop()


async def test_of_nodes_that_take_a_lease_at_once_one_gets_it_and_the_other_learns_who(
    peers: tuple[Peer, Peer],
) -> None:
    one, two = peers
    for number in range(10):
        name = f"room:{number}"
        first, second = await asyncio.gather(
            one.engine.take_lease(name, "one", 60), two.engine.take_lease(name, "two", 60)
        )
        assert first == second
        other, its = (two, "two") if first.owner == "one" else (one, "one")
        assert await other.engine.renew_leases(its, {name: first.fence}, 60) == set()
        await other.engine.release_lease(name, Lease(its, first.fence))
        assert await other.engine.take_lease(name, its, 60) == first


async def test_a_lease_that_is_not_renewed_ends_and_the_next_owner_has_a_larger_fence(
    peers: tuple[Peer, Peer],
) -> None:
    one, two = peers
    first = await one.engine.take_lease("room", "one", 0.2)

    async def taken() -> Lease | None:
        lease = await two.engine.take_lease("room", "two", 60)
        return lease if lease.owner == "two" else None

    second = await eventually(taken, 10, "the end of the lease")
    assert second is not None
    assert second.fence > first.fence
    assert await one.engine.renew_leases("one", {"room": first.fence}, 60) == set()
    await one.engine.release_lease("room", first)
    assert await one.engine.take_lease("room", "one", 60) == second


async def test_a_lease_that_is_renewed_lasts(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    first = await one.engine.take_lease("room", "one", 0.1)
    for ttl in (0.1, 60.0):
        assert await one.engine.renew_leases("one", {"room": first.fence}, ttl) <= {"room"}
    lease = await one.engine.take_lease("room", "one", 60)
    short = await one.engine.take_lease("short", "one", 0.2)
    await eventually(lambda: _ended(two, "short", short), 10, "the end of a lease that began later")
    assert await two.engine.take_lease("room", "two", 60) == lease


async def test_a_lease_that_ended_is_renewed_if_nobody_has_taken_it_since(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    names = ("mine", "taken", "released")
    leases = {name: (await one.engine.take_lease(name, "one", 0.3)).fence for name in names}
    later = await one.engine.take_lease("later", "one", 0.3)
    await eventually(lambda: _ended(two, "later", later), 10, "the end of a lease that began later")
    assert (await two.engine.take_lease("taken", "two", 60)).owner == "two"
    await two.engine.release_lease("released", await two.engine.take_lease("released", "two", 60))
    assert await one.engine.renew_leases("one", {**leases, "later": later.fence}, 60) == {"mine"}
    assert await two.engine.take_lease("mine", "two", 60) == Lease("one", leases["mine"])


async def _ended(peer: Peer, name: str, lease: Lease) -> bool:
    return await peer.engine.take_lease(name, "another", 60) != lease


async def test_of_nodes_that_append_behind_one_position_one_does_and_the_other_learns_it(
    peers: tuple[Peer, Peer],
) -> None:
    stands = (await peers[0].engine.history("a", KEEP, limit=0)).position
    for _ in range(10):
        options = PublishOptions(history=KEEP, after=stands)
        results = await asyncio.gather(
            *(peer.engine.publish("a", b"1", options) for peer in peers), return_exceptions=True
        )
        assert sorted(type(result).__name__ for result in results) == ["Position", "PositionConflict"]
        stands = next(result for result in results if isinstance(result, Position))
    assert stands.offset == 10
