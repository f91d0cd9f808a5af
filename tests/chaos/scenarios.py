"""What happens where: each scenario is a fault, and the place that it happens to."""

import asyncio
import time
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from tests.chaos import faults
from tests.chaos.faults import Fault
from tests.chaos.ledger import Verdict
from tests.chaos.world import Load, Place, world
from tests.tools.patience import seconds

LEAD = 1.0  # seconds of quiet before a fault and after it


class Scenario(NamedTuple):
    """keeps: nothing is lost, so that nobody has to be told."""

    name: str
    fault: Fault
    place: Place
    keeps: bool = True


def _at(name: str, fault: Fault, *engines: str, nodes: int = 2, relay: str = "", keeps: bool = True) -> list[Scenario]:
    return [Scenario(name, fault, Place(engine, nodes=nodes, relay=relay), keeps) for engine in engines]


BOTH = ("redis", "nats")
WORKERS = Place("memory", nodes=1, workers=4)
SCENARIOS = list(
    chain(
        _at("broker killed, back after 2 s", faults.broker_is_killed, *BOTH),
        _at("broker killed, forgets", faults.broker_forgets, "redis-forgets", keeps=False),
        _at("broker stands still for 3 s", faults.broker_stands_still, *BOTH),
        _at("broker is full", faults.broker_is_full, "redis"),
        _at("broker evicts logs", faults.broker_evicts, "redis", keeps=False),
        _at("broker is fed garbage", faults.broker_is_fed_garbage, *BOTH),
        _at("node cut off from its broker for 4 s", faults.line_falls_silent, *BOTH, relay="broker"),
        _at("line to the broker breaks", faults.line_breaks, *BOTH, relay="broker"),
        _at("line to the broker is slow", faults.line_is_slow, *BOTH, relay="broker"),
        _at("node killed", faults.node_is_killed, *BOTH),
        _at("node killed, another in its place", faults.node_restarts, "sqlite", nodes=1),
        _at("node drains", faults.node_drains, *BOTH),
        _at("rolling deploy", faults.nodes_are_renewed, *BOTH),
        [Scenario("worker killed, twice", faults.worker_is_killed, WORKERS)],
        _at("all clients cut, three times", faults.all_are_cut, "memory", nodes=1),
        _at("all clients cut, three times", faults.all_are_cut, "redis"),
        [Scenario("clients of 4 workers cut all the time", faults.some_are_cut_all_the_time, WORKERS)],
        _at("clients cut all the time", faults.some_are_cut_all_the_time, *BOTH),
        _at("clients cut all the time", faults.some_are_cut_all_the_time, "memory", nodes=1),
        _at("clients half open", faults.clients_fall_silent, "redis", relay="clients"),
        _at("line to the clients is slow", faults.line_is_slow, "redis", relay="clients"),
        _at("clients that do not read", faults.some_do_not_read, "memory", nodes=1),
        _at("clients that do not read", faults.some_do_not_read, "redis"),
        _at("strangers claim places", faults.strangers_claim_places, "redis"),
        _at("clients come and go", faults.some_come_and_go, *BOTH),
    )
)


class Outcome(NamedTuple):
    """back: seconds after the fault began at which clients that were out were in again, ascending."""

    verdict: Verdict
    recovered: int
    failed: int
    back: list[float]


async def happen(scenario: Scenario, load: Load, folder: Path, seed: int) -> Outcome:
    async with world(scenario.place, load, folder, seed) as it:
        await asyncio.sleep(seconds(LEAD))
        began = time.monotonic()
        await scenario.fault(it)
        await asyncio.sleep(seconds(LEAD))
        await it.rest()
        back = sorted(each.back - began for each in it.subscribers if each.back > began)
        return Outcome(it.ledger.verdict(), sum(each.recoveries for each in it.subscribers), it.failed, back)
