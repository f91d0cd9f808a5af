"""What only one may do, and all nodes have to know, on every engine: revocations, marks, leases, a log's next place.

A test module for an engine imports all of this beside `engine.py`.
"""

import asyncio
import time

import pytest

from freshet.engines.base import Engine, Lease
from freshet.errors import PositionConflict
from freshet.model.events import Published
from freshet.model.log import History, Position, PublishOptions
from freshet.node.bus import Bus
from freshet.node.registry import Registry
from freshet.node.revoking import Revoking
from freshet.policy.revocations import Revocation, Revocations
from tests.contracts.engine import KEEP, Delivered


def revoking_over(engine: Engine, node: str) -> Revoking:
    """A node's part in revocations, over an engine that has been started."""
    return Revoking(engine, Bus(node, engine), Registry(), Revocations(time.time), time.time, 3600)


async def test_a_node_that_starts_later_knows_what_was_revoked_in_time_and_by_order(
    engine: Engine, delivered: Delivered
) -> None:
    first, later, now = revoking_over(engine, "node"), revoking_over(engine, "node"), time.time()
    await first.start()
    for number in range(30):
        await first.revoke(Revocation(f"t{number}", token=f"t{number}", until=now + 3600))
    await first.revoke(Revocation("u", user="alice", before=now))
    await first.block("bob", 60)
    await first.revoke(Revocation("over", token="over", until=now - 1))
    await later.start()
    assert [it.id for it in later.known] == [it.id for it in first.known]
    assert len(later.known) == 32
    assert later.known.revoked("carol", "t29", now + 5)
    assert later.known.revoked("alice", None, now - 5)
    assert later.known.blocked("bob")
    await first.stop()
    await later.stop()


async def test_a_mark_that_something_was_used_is_first_for_one_alone(engine: Engine, delivered: Delivered) -> None:
    used = PublishOptions(history=History(1, 60))
    positions = await asyncio.gather(*(engine.publish("\0ticket:1", b"", used) for _ in range(5)))
    assert sorted(position.offset for position in positions) == [1, 2, 3, 4, 5]


async def test_a_name_has_one_owner_until_it_is_released(engine: Engine, delivered: Delivered) -> None:
    lease = await engine.take_lease("room", "node", 60)
    assert lease.owner == "node"
    assert lease.fence > 0
    assert await engine.take_lease("room", "node", 60) == lease, "it is renewed"
    assert await engine.renew_leases("node", {"room": lease.fence}, 60) == {"room"}
    await engine.release_lease("room", Lease("node", lease.fence + 1))
    assert await engine.renew_leases("node", {"room": lease.fence}, 60) == {"room"}, "it was not that lease"
    await engine.release_lease("room", lease)
    assert await engine.renew_leases("node", {"room": lease.fence}, 60) == set()
    await engine.release_lease("room", lease)
    again = await engine.take_lease("room", "node", 60)
    assert again.fence > lease.fence


async def test_many_leases_are_renewed_at_once_and_those_that_are_lost_are_left_out(
    engine: Engine, delivered: Delivered
) -> None:
    leases = {f"room:{number}": (await engine.take_lease(f"room:{number}", "node", 60)).fence for number in range(30)}
    await engine.release_lease("room:7", Lease("node", leases["room:7"]))
    asked = {**leases, "room:8": leases["room:8"] + 1000, "never taken": 1}
    assert await engine.renew_leases("node", asked, 60) == leases.keys() - {"room:7", "room:8"}
    assert await engine.renew_leases("node", {}, 60) == set()


@pytest.mark.parametrize("name", [" ", "a:b", "\n\x00", "é" * 100, "*", "{a}", "../x", "a" * 4096])
async def test_any_name_has_a_lease_of_its_own(engine: Engine, delivered: Delivered, name: str) -> None:
    lease = await engine.take_lease(name, "node", 60)
    await engine.take_lease(name + "x", "node", 60)
    assert await engine.take_lease(name, "node", 60) == lease


async def test_what_names_the_position_before_it_is_appended_there_or_not_at_all(
    engine: Engine, delivered: Delivered
) -> None:
    start = (await engine.history("a", KEEP, limit=0)).position
    await engine.subscribe("a", KEEP)
    first = await engine.publish("a", b"1", PublishOptions(history=KEEP, after=start))
    assert first == Position(start.epoch, 1)
    for elsewhere in (start, Position("of another log", 1), Position(start.epoch, 2)):
        with pytest.raises(PositionConflict):
            await engine.publish("a", b"no", PublishOptions(history=KEEP, after=elsewhere))
    assert await engine.publish("a", b"2", PublishOptions(history=KEEP, after=first)) == Position(start.epoch, 2)
    assert [event.publication.data for event in await delivered.count(2) if isinstance(event, Published)] == [
        b"1",
        b"2",
    ]
    assert [it.data for it in (await engine.history("a", KEEP)).publications] == [b"1", b"2"]


async def test_of_those_that_name_one_position_at_once_one_is_appended(engine: Engine, delivered: Delivered) -> None:
    start = (await engine.history("a", KEEP, limit=0)).position
    options = PublishOptions(history=KEEP, after=start)
    results = await asyncio.gather(
        *(engine.publish("a", b"%d" % index, options) for index in range(5)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["Position", *["PositionConflict"] * 4]
    assert len((await engine.history("a", KEEP)).publications) == 1
