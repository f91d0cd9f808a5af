"""What happens where: each scenario is a fault, and the place that it happens to."""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.chaos import apart, faults, intruders
from tests.chaos.faults import Fault
from tests.chaos.ledger import Verdict
from tests.chaos.world import Load, Place, world

LEAD = 1.0  # seconds of quiet before a fault and after it


class Scenario(NamedTuple):
    """keeps: nothing is lost, so that no subscriber is notified of a gap; None: it depends on who had what by then.

    short: a part of the tests, too.
    """

    name: str
    fault: Fault
    place: Place
    keeps: bool | None = True
    short: bool = True


def _at(
    name: str, fault: Fault, *places: Place | str, relay: str = "", keeps: bool | None = True, short: bool = True
) -> list[Scenario]:
    """places: an engine's name is two nodes on it, or one if it is only for one."""
    return [
        Scenario(name, fault, place if isinstance(place, Place) else _on(place, relay), keeps, short)
        for place in places
    ]


def _on(engine: str, relay: str) -> Place:
    return Place(engine, nodes=1 if engine in ("memory", "sqlite") else 2, relay=relay)


BOTH = ("redis", "nats")
WIRED = Place("redis", apart=True, wired=True)
WORKERS = Place("memory", nodes=1, workers=4)
SCENARIOS = [
    *_at("nothing, for 10 s", faults.nothing, *BOTH, WORKERS, short=False),
    *_at("broker killed, back after 2 s", faults.broker_is_killed, *BOTH),
    *_at("broker killed, forgets", faults.broker_forgets, "redis-forgets", keeps=False),
    *_at("broker stands still for 3 s", faults.broker_stands_still, "redis"),
    *_at("broker stands still for 3 s", faults.broker_stands_still, "nats", short=False),
    *_at("broker is full", faults.broker_is_full, "redis"),
    *_at("broker evicts logs", faults.broker_evicts, "redis", keeps=False),
    *_at("broker is fed garbage", faults.broker_is_fed_garbage, "nats"),
    *_at("broker is fed garbage", faults.broker_is_fed_garbage, "redis", short=False),
    *_at("network parted", faults.network_is_parted, Place("redis", apart=True)),
    *_at("network parted", faults.network_is_parted, Place("nats", apart=True), short=False),
    *_at("packets lost: 5 %, 200 ms, out of order", faults.packets_are_lost, WIRED),
    *_at(
        "packets lost: 5 %, 200 ms, out of order", faults.packets_are_lost, WIRED._replace(engine="nats"), short=False
    ),
    *_at("connection to the broker silent for 4 s", faults.connection_falls_silent, *BOTH, relay="broker", short=False),
    *_at("connection to the broker breaks", faults.connection_breaks, "nats", relay="broker"),
    *_at("connection to the broker breaks", faults.connection_breaks, "redis", relay="broker", short=False),
    *_at("connection to the broker is slow", faults.connection_is_slow, *BOTH, relay="broker", short=False),
    *_at("node killed", faults.node_is_killed, *BOTH),
    *_at("node killed, another in its place", faults.node_restarts, "sqlite"),
    *_at("node drains", faults.node_drains, "nats"),
    *_at("node drains", faults.node_drains, "redis", short=False),
    *_at("rolling deploy", faults.nodes_are_renewed, *BOTH, short=False),
    *_at("rolling deploy behind nginx", faults.nodes_are_renewed, Place("redis", proxy="nginx")),
    *_at("rolling deploy behind HAProxy", faults.nodes_are_renewed, Place("redis", proxy="haproxy")),
    *_at("rolling deploy behind Caddy", faults.nodes_are_renewed, Place("redis", proxy="caddy")),
    *_at("clock of a node turned", faults.clock_is_turned, Place("redis", clock=True)),
    *_at("clock of a node turned", faults.clock_is_turned, Place("nats", clock=True), short=False),
    *_at("worker killed, twice", faults.worker_is_killed, WORKERS),
    *_at("hub and worker killed, forgets", faults.hub_is_killed, WORKERS, keeps=None),
    *_at("all clients cut, three times", faults.all_are_cut, "memory"),
    *_at("all clients cut, three times", faults.all_are_cut, *BOTH, WORKERS, short=False),
    *_at("clients cut all the time", faults.some_are_cut_all_the_time, "redis", WORKERS),
    *_at("clients cut all the time", faults.some_are_cut_all_the_time, "nats", "memory", short=False),
    *_at("clients half open", faults.clients_fall_silent, "redis", relay="clients"),
    *_at("connection to the clients is slow", faults.connection_is_slow, "redis", relay="clients"),
    *_at("clients that do not read", faults.some_do_not_read, "redis"),
    *_at("clients that do not read", faults.some_do_not_read, "memory", short=False),
    *_at("strangers forge positions", intruders.strangers_forge_positions, "redis"),
    *_at("tokens that are invalid", intruders.tokens_are_invalid, "redis"),
    *_at("tokens that are invalid", intruders.tokens_are_invalid, "nats", WORKERS, short=False),
    *_at("clients come and go", faults.some_come_and_go, "redis"),
    *_at("clients come and go", faults.some_come_and_go, "nats", short=False),
    *_at("one fault after the other", faults.anything_happens, *BOTH, relay="broker", short=False),
]


class Outcome(NamedTuple):
    """back: seconds after the fault began at which clients that were out were in again, ascending."""

    verdict: Verdict
    recovered: int
    failed: int
    back: list[float]


async def happen(scenario: Scenario, load: Load, folder: Path, seed: int) -> Outcome:
    if scenario.place.apart and not apart.is_inside():
        arguments = (str(SCENARIOS.index(scenario)), json.dumps(load), str(seed))
        return _outcome(
            json.loads(
                await asyncio.to_thread(
                    apart.run, "-m", "tests.chaos.scenarios", *arguments, wired=scenario.place.wired
                )
            )
        )
    async with world(scenario.place, load, folder, seed) as it:
        await asyncio.sleep(LEAD)
        began = time.monotonic()
        await scenario.fault(it)
        await asyncio.sleep(LEAD)
        await it.rest()
        back = sorted(each.back - began for each in it.subscribers if each.back > began)
        return Outcome(it.ledger.verdict(), sum(each.recoveries for each in it.subscribers), it.failed, back)


def _outcome(outcome: list[Any]) -> Outcome:
    return Outcome(Verdict(*outcome[0]), *outcome[1:])


if __name__ == "__main__":  # in a namespace of its own: see `happen`
    with tempfile.TemporaryDirectory(prefix="freshet-chaos-") as folder:
        index, load, seed = sys.argv[1:]
        print(json.dumps(asyncio.run(happen(SCENARIOS[int(index)], Load(*json.loads(load)), Path(folder), int(seed)))))
