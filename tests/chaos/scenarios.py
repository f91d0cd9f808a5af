"""The faults. Each begins under load, does its harm, and returns when all is whole again."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from tests.chaos.ledger import Verdict
from tests.chaos.world import Load, World, world
from tests.tools.patience import eventually, seconds
from tests.tools.relay import Relay

LEAD = 1.0  # seconds of quiet before a fault and after it

Fault = Callable[[World, Relay | None], Awaitable[None]]


async def broker_is_killed(it: World, _: Relay | None) -> None:
    assert it.broker.server is not None
    await asyncio.to_thread(it.broker.server.kill)
    await asyncio.sleep(2)
    await asyncio.to_thread(it.broker.server.start)


async def broker_forgets(it: World, relay: Relay | None) -> None:
    await broker_is_killed(it, relay)
    await eventually(lambda: any(None in given for _, given in it.ledger.given), 20, "somebody to be told")


async def broker_stands_still(it: World, _: Relay | None) -> None:
    assert it.broker.server is not None
    it.broker.server.pause()
    await asyncio.sleep(3)
    it.broker.server.go_on()


async def node_is_cut_off(_: World, relay: Relay | None) -> None:
    """Nothing passes between one node and the broker, and nothing says so."""
    assert relay is not None
    relay.hush()
    await asyncio.sleep(4)
    relay.mend()


async def line_to_broker_breaks(_: World, relay: Relay | None) -> None:
    assert relay is not None
    for _ in range(3):
        relay.cut()
        relay.mend()
        await asyncio.sleep(0.7)


async def node_is_killed(it: World, _: Relay | None) -> None:
    await asyncio.to_thread(it.servers[0].kill)


async def node_drains(it: World, _: Relay | None) -> None:
    code = await asyncio.to_thread(it.servers[0].stop)
    assert code == 0


async def all_are_cut(it: World, _: Relay | None) -> None:
    for _ in range(3):
        for each in it.subscribers:
            each.cut()
        await asyncio.sleep(1)


async def some_are_cut_all_the_time(it: World, _: Relay | None) -> None:
    end = time.monotonic() + 4
    while time.monotonic() < end:
        it.chance.choice(it.subscribers).cut()
        await asyncio.sleep(4 / len(it.subscribers))


class Scenario(NamedTuple):
    """relay: the first node reaches its broker through one. keeps: nothing is lost, so that nobody has to be told."""

    name: str
    engine: str
    fault: Fault
    nodes: int = 2
    relay: bool = False
    keeps: bool = True


SCENARIOS = [
    *(Scenario("broker killed, back after 2 s", engine, broker_is_killed) for engine in ("redis", "nats")),
    Scenario("broker killed, forgets", "redis-forgets", broker_forgets, keeps=False),
    *(Scenario("broker stands still for 3 s", engine, broker_stands_still) for engine in ("redis", "nats")),
    *(
        Scenario("node cut off from its broker for 4 s", engine, node_is_cut_off, relay=True)
        for engine in ("redis", "nats")
    ),
    *(Scenario("line to the broker breaks", engine, line_to_broker_breaks, relay=True) for engine in ("redis", "nats")),
    *(Scenario("node killed", engine, node_is_killed) for engine in ("redis", "nats")),
    *(Scenario("node drains", engine, node_drains) for engine in ("redis", "nats")),
    Scenario("all clients cut, three times", "memory", all_are_cut, nodes=1),
    *(Scenario("clients cut all the time", engine, some_are_cut_all_the_time) for engine in ("redis", "nats")),
    Scenario("clients cut all the time", "memory", some_are_cut_all_the_time, nodes=1),
]


class Outcome(NamedTuple):
    """back: seconds after the fault began at which clients that were out were in again, ascending."""

    verdict: Verdict
    recovered: int
    failed: int
    back: list[float]


async def happen(scenario: Scenario, load: Load, folder: Path, seed: int) -> Outcome:
    async with world(scenario.engine, load, folder, seed, nodes=scenario.nodes, relay=scenario.relay) as (it, relay):
        await asyncio.sleep(seconds(LEAD))
        began = time.monotonic()
        await scenario.fault(it, relay)
        await asyncio.sleep(seconds(LEAD))
        await it.rest()
        back = sorted(each.back - began for each in it.subscribers if each.back > began)
        return Outcome(it.ledger.verdict(), sum(each.recoveries for each in it.subscribers), it.failed, back)
