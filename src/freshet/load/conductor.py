"""All processes of a load: they begin together, and their samples are merged."""

import asyncio
import os
import signal
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from freshet.load.plan import LoadError, Plan

LINE = 1 << 20
ENDS = 15.0  # seconds that a process has to end when it is told to

Progress = Callable[[str, int], None]
"""Called with a name, `connected`, `deliveries` or `back`, and how many there are by now."""


class Measured(msgspec.Struct):
    """All processes together. series: nanoseconds, sorted. counts: see `Tally`. busy: of the busiest one; 1: a core.

    is_whole: it was not interrupted. seconds: of the measurement, as it was. connects_per_second: during it, if there
    were any; else before.
    """

    series: dict[str, Sequence[int]]
    counts: Counter[str]
    reason: str
    busy: float
    seconds: float
    connects_per_second: float
    is_whole: bool


class WorkerProcess:
    """A worker, and what it says."""

    def __init__(self, plan: Plan, module: str) -> None:
        """module: what runs `worker.work`."""
        self.plan = plan
        self._module = module
        self.connected = self.deliveries = self.back = 0

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE,
            start_new_session=True,  # Ctrl-C is for us alone: the figures so far are wanted
        )
        await self.say(msgspec.json.encode(self.plan).decode())

    async def say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()
        except ConnectionError:
            pass  # what it had to say stands on its stdout

    async def hear(self, event: str) -> dict[str, Any]:
        """The next event of this name. Raises LoadError if it failed or ended."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            heard: dict[str, Any] = msgspec.json.decode(line)
            if heard["event"] == "progress":
                self.connected, self.deliveries, self.back = heard["connected"], heard["deliveries"], heard["back"]
            if heard["event"] == "failed":
                raise LoadError(heard["message"], heard["hint"])
            if heard["event"] == event:
                return heard
        raise LoadError(f"process {self.plan.process} of the load ended with {await self._process.wait()}")

    async def samples(self, sizes: dict[str, int]) -> "dict[str, array[int]]":
        """What stands behind the result."""
        assert self._process.stdout is not None
        series = {}
        for name, size in sizes.items():
            series[name] = array("q")
            series[name].frombytes(await self._process.stdout.readexactly(size * series[name].itemsize))
        return series

    async def end(self) -> None:
        """By its id."""
        if not hasattr(self, "_process") or self._process.returncode is not None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), ENDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def conduct(plans: list[Plan], module: str, progress: Progress = lambda *_: None) -> Measured:
    """Raises LoadError. Ctrl-C ends the measurement, not the result; a second one ends all."""
    processes = [WorkerProcess(plan, module) for plan in plans]
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, stopped.set)
    watching = asyncio.create_task(_watch(processes, progress))
    try:
        return await _measure(processes, stopped)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        watching.cancel()
        await asyncio.gather(*(each.end() for each in processes))


async def _measure(processes: list[WorkerProcess], stopped: asyncio.Event) -> Measured:
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(each.start() for each in processes))
    stopping = asyncio.create_task(_pass_on(processes, stopped))
    try:
        connected = await asyncio.gather(*(each.hear("connected") for each in processes))
        go = loop.time()
        await asyncio.gather(*(each.say("go") for each in processes))
        done = await asyncio.gather(*(each.hear("done") for each in processes))
        seconds = loop.time() - go
        published = sum(each["published"] for each in done)
        await asyncio.gather(*(each.say(f"finish {published}") for each in processes))
        results = await asyncio.gather(*(_result(each) for each in processes))
    finally:
        stopping.cancel()
    counts: Counter[str] = Counter()
    merged: dict[str, array[int]] = {}
    for result, series in results:
        counts.update(result["counts"])
        for name, samples in series.items():
            merged.setdefault(name, array("q")).extend(samples)
    first, again = sum(each["connects"] for each in connected), len(merged["connect"])
    took = seconds if again > first else max(each["seconds"] for each in connected)
    return Measured(
        series={name: sorted(samples) for name, samples in merged.items()},
        counts=counts,
        reason=next((result["reason"] for result, _ in results if result["reason"]), ""),
        busy=max(result["busy"] for result, _ in results),
        seconds=seconds,
        connects_per_second=(again - first or first) / max(1e-9, took),
        is_whole=not stopped.is_set(),
    )


async def _result(process: WorkerProcess) -> tuple[dict[str, Any], "dict[str, array[int]]"]:
    result = await process.hear("result")
    return result, await process.samples(result["series"])


async def _pass_on(processes: list[WorkerProcess], stopped: asyncio.Event) -> None:
    await stopped.wait()
    await asyncio.gather(*(each.say("stop") for each in processes))


async def _watch(processes: list[WorkerProcess], progress: Progress) -> None:
    while True:
        await asyncio.sleep(0.1)
        for name in ("connected", "deliveries", "back"):
            progress(name, sum(getattr(each, name) for each in processes))


def shares(plan: Plan, processes: int) -> list[Plan]:
    """The plan of each process: its part of the clients, of their tokens, of the rate and of what is in flight."""
    plans, first = [], 0
    whole_rooms = plan.members if plan.load == "chat" else 1
    rooms = plan.clients // whole_rooms
    alone = plan.load in ("fanout", "recovery")  # one process publishes
    for number in range(processes):
        clients = whole_rooms * (rooms // processes + (number < rooms % processes))
        clients += plan.clients % whole_rooms if number == processes - 1 else 0
        plans.append(
            msgspec.structs.replace(
                plan,
                process=number,
                first=first,
                clients=clients,
                tokens=plan.tokens[first : first + clients] if len(plan.tokens) > 1 else plan.tokens,
                rate=plan.rate if alone else plan.rate / processes,
                in_flight=plan.in_flight if alone else max(1, plan.in_flight // processes),
                at_once=max(1, plan.at_once // processes),
            )
        )
        first += clients
    return plans


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
