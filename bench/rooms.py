"""What rooms cost: messages through one and many, the way out of sleep, memory, and a takeover.

In one process, without a network: a client's session calls the room, which writes, and broadcasts to whom there is.

Run: python -m bench.rooms --help. With --write the table goes to bench/RESULTS.md.
"""

import asyncio
import gc
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

from bench import takeover
from bench.arguments import benchmark_parser
from bench.results import report
from freshet import Freshet, Room, RoomSession
from freshet.config import Config, Rooms, Tokens
from freshet.model.log import ClientInfo, PublishOptions

MESSAGE = b'{"add": 1}'


class Counter(Room):
    """Keeps what it counts, and says so."""

    async def on_start(self) -> None:
        self.value = await self.store.get("value", 0)

    async def on_message(self, session: RoomSession, data: dict[str, Any]) -> None:
        self.value += data["add"]
        await self.store.put("value", self.value)
        await self.broadcast(self.value)


class Meter:
    """Messages to rooms, as clients publish them."""

    def __init__(self, live: Freshet) -> None:
        self._publish = live._node.doors["room"].say
        self.latencies: list[float] = []

    async def say(self, room: str) -> None:
        began = time.perf_counter()
        await self._publish(room, MESSAGE, PublishOptions(info=ClientInfo("user", "client")))
        self.latencies.append(time.perf_counter() - began)

    async def load(self, rooms: list[str], seconds: float, at_once: int) -> str:
        """Messages/s, and the 99th percentile of what one takes."""
        self.latencies.clear()
        end = time.perf_counter() + seconds

        async def talk(number: int) -> None:
            while time.perf_counter() < end:
                await self.say(rooms[number % len(rooms)])
                number += at_once

        await asyncio.gather(*(talk(number) for number in range(at_once)))
        latencies = sorted(self.latencies)
        return f"{len(latencies) / seconds:,.0f} | {latencies[int(len(latencies) * 0.99)] * 1000:.1f}"


async def measure(store: str, seconds: float, many: int) -> list[str]:
    config = Config(rooms=Rooms(store=store, idle=3600), tokens=Tokens(anonymous=True))
    live = Freshet(secret="x" * 32, config=config)
    live.room("r:{name}")(Counter)
    meter, rooms = Meter(live), [f"r:{number}" for number in range(many)]
    name = store.partition(":")[0]
    async with live.lifespan():
        lines = [
            f"| {name} | one, one message after the other | {await meter.load(rooms[:1], seconds, 1)} |",
            f"| {name} | one, 50 messages at once | {await meter.load(rooms[:1], seconds, 50)} |",
        ]
        for start in range(0, many, 100):
            await asyncio.gather(*(meter.say(room) for room in rooms[start : start + 100]))
        lines.append(f"| {name} | {many:,}, 50 at once | {await meter.load(rooms, seconds, 50)} |")
        await sleep(live)
        meter.latencies.clear()
        for room in rooms[: min(many, 500)]:
            await meter.say(room)
        woken = sorted(meter.latencies)
        lines.append(f"| {name} | asleep, woken one after the other | - | {woken[int(len(woken) * 0.99)] * 1000:.1f} |")
    return lines


async def sleep(live: Freshet) -> None:
    """Let all leave memory, as those that are idle do."""
    for activation in list(live._rooms._active.values()):
        live._node.wheel.cancel(activation)
        activation.visit(time.monotonic())
    while len(live._rooms._leases):  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)


class Beat:
    """A timer that is due every few milliseconds: how late it was at most, because something held up the loop."""

    def __init__(self) -> None:
        self.latest = 0.0
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._tick()

    def _tick(self) -> None:
        self.latest = max(self.latest, self._loop.time() - self._due)
        self._due = self._loop.time() + 0.005
        self._timer = self._loop.call_at(self._due, self._tick)

    def stop(self) -> str:
        self._timer.cancel()
        return f"{self.latest * 1000:.0f} ms"


async def memory(awake: int, asleep: int, folder: str) -> str:
    """Bytes of a room in memory and of one that sleeps, without its rows; what it takes that all renew, and leave."""
    config = Config(rooms=Rooms(store=f"sqlite:///{folder}/rooms.db", idle=3600), tokens=Tokens(anonymous=True))
    live = Freshet(secret="x" * 32, config=config)
    live.room("r:{name}")(Counter)
    meter = Meter(live)

    async def wake(first: int, behind: int) -> None:
        for start in range(first, behind, 100):
            await asyncio.gather(*(meter.say(f"r:{number}") for number in range(start, min(start + 100, behind))))
        meter.latencies.clear()

    async with live.lifespan():
        await wake(0, awake)  # so that what is made once is there
        await sleep(live)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await wake(0, awake)
        gc.collect()
        in_memory = (tracemalloc.get_traced_memory()[0] - before) / awake
        tracemalloc.stop()
        renewals, began = Beat(), time.process_time()
        await asyncio.sleep(2 * config.rooms.lease)
        renewed = (time.process_time() - began) / (2 * config.rooms.lease)
        stalls = renewals.stop()
        leaving = Beat()
        await sleep(live)
        left = leaving.stop()
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for start in range(0, asleep, 1000):
            await wake(start, start + 1000)
            await sleep(live)
        gc.collect()
        sleeping = max(0.0, tracemalloc.get_traced_memory()[0] - before) / asleep
        tracemalloc.stop()
    return (
        f"A room in memory takes {in_memory:,.0f} bytes; {asleep:,} that woke up once and sleep, {sleeping:,.1f} each. "
        f"To keep {awake:,} in memory takes {renewed:.1%} of a core and holds up the event loop for {stalls} at most; "
        f"that all leave at once holds it up for {left}."
    )


def main() -> None:
    parser = benchmark_parser(__doc__, seconds=3.0, rounds=5)
    parser.add_argument("--rooms", type=int, default=10_000, help="rooms that are there at once (default: 10000)")
    parser.add_argument("--asleep", type=int, default=100_000, help="rooms that sleep (default: 100000)")
    options = parser.parse_args()
    lines = [
        f"## Rooms: a message that is written and broadcast; {options.rooms:,} rooms",
        "",
        "| store | rooms | messages/s | 99th percentile, ms |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for store in ("memory://", f"sqlite:///{folder}/rooms.db"):
            lines += asyncio.run(measure(store, options.seconds, options.rooms))
            print("\n".join(lines[-4:]), file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        lines += ["", asyncio.run(memory(options.rooms, options.asleep, folder))]
    with tempfile.TemporaryDirectory() as folder:
        lines += ["", takeover.report(Path(folder), options.rounds)]
    report("rooms", lines, options)


if __name__ == "__main__":
    main()
