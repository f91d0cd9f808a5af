"""The owner of a channel's runs dies, or stands still, at each step that it takes: somebody notices, and goes on there.

Afterwards nothing is left in the log as running or waiting for its turn that nobody has, and whoever watches, on
another node and without coming anew, has seen the end of all that he saw the beginning of.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from freshet import Freshet, Run
from freshet.engines.base import Engine
from freshet.engines.local.engine import LocalEngine
from freshet.engines.local.host_hub import HostHub
from freshet.engines.local.messages import EngineSettings
from freshet.engines.memory import MemoryEngine
from freshet.errors import EngineUnavailable, FreshetError
from freshet.model.run_messages import ENDED
from freshet.testing import Client, ManualClock
from tests.races.gates import GateEngine, Gates
from tests.races.test_races import each_gate
from tests.runs.two import CONFIG
from tests.runs.viewer import Viewer

CHANNEL = "chat:1"
LEASE = 0.08  # seconds, most of which a test turns by hand
BEAT = LEASE / 4
PATIENCE = 20  # leases; what nobody has noticed by then is not noticed at all


class MortalGates(Gates):
    """As those of a process: when it is dead, or stands still, nobody comes through any of them."""

    def __init__(self) -> None:
        super().__init__()
        self.shut = self.buried = False
        self._opened = asyncio.Event()

    async def come(self, name: str) -> None:
        if self.armed and not self.held and len(self.passed) == self.hold:
            self.held, self.shut = name, True
        elif self.armed:
            self.passed.append(name)
        await asyncio.sleep(0)
        if self.shut:
            await self._opened.wait()
        if self.buried:
            raise EngineUnavailable("it is dead")

    def open(self) -> None:
        self.shut = False
        self._opened.set()

    def bury(self) -> None:
        self.buried = True
        self.open()


class MortalEngine(GateEngine):
    shared = True

    async def tell(self, node: str | None, message: bytes) -> None:
        await self._gates.come("tell")
        await super().tell(node, message)
        await self._gates.come("told")


class Pair:
    """a has the runs; b has the client. clock_a, clock: of a; of all others. go: what a's functions wait for."""

    def __init__(self, a: Freshet, b: Freshet, gates: MortalGates, clocks: tuple[ManualClock, ManualClock]) -> None:
        self.a = a
        self.b = b
        self.gates = gates
        self.clock_a, self.clock = clocks
        self.go = asyncio.Event()
        self.viewer = Viewer()
        self.client: Client

    async def turns(self) -> None:
        for _ in range(60):
            await asyncio.sleep(0)

    async def time_goes_by(self, leases: float, *, for_a: bool = True) -> None:
        for _ in range(round(leases * 4)):
            await self.clock.advance(BEAT)
            if for_a:
                await self.clock_a.advance(BEAT)
            await self.turns()

    def dies(self) -> None:
        """As by SIGKILL: its connection is closed, and it comes to nothing any more."""
        engine = self.a._node.engine
        assert isinstance(engine, MortalEngine)
        asyncio.get_running_loop().create_task(engine.inner.stop())

    async def look(self) -> None:
        """What the client was given."""
        with suppress(TimeoutError):
            while True:
                self.viewer.take((await self.client.receive(CHANNEL, within=0.02)).data)

    def viewer_waits_for(self) -> dict[str, str]:
        return {id: f"seen as {it}" for id, it in self.viewer.states.items() if it not in (*ENDED, "waiting")}

    async def unfinished(self) -> dict[str, str]:
        """By the log, with what waits for an answer left out."""
        runs = self.b._runs
        state = await runs._log(CHANNEL, runs._rule(CHANNEL)).read()
        return {id: it.state for id, it in state.runs.items() if it.state not in (*ENDED, "waiting")}


def register(live: Freshet, go: Callable[[], asyncio.Event | None]) -> None:
    @live.run("chat:{chat}")
    async def answer(run: Run, message: str, chat: str) -> None:
        await run.write("so far ")
        if message == "ask":
            await run.ask(await run.tool("delete", {}, id=f"{run.id}:tool"))
        elif (event := go()) is not None:
            await event.wait()
            await run.write("and so on")

    @answer.on_approval
    async def go_on(run: Run, message: str, chat: str) -> None:
        await run.write("done")


@asynccontextmanager
async def pair(path: Path) -> AsyncIterator[Pair]:
    clocks, gates = (ManualClock(), ManualClock()), MortalGates()
    config = replace(CONFIG, runs=replace(CONFIG.runs, lease=LEASE))
    hub = HostHub(str(path / "hub"), lambda wanted: MemoryEngine(60, clocks[1]))
    here: Pair

    def engine(mortal: bool) -> Engine:
        local = LocalEngine([str(path / "hub")], EngineSettings("memory://"))
        return MortalEngine(local, gates) if mortal else local

    lives = []
    for mortal, clock in zip((True, False), clocks, strict=True):
        with patch("freshet.app.engine_of", lambda config, clock, mortal=mortal: engine(mortal)):
            lives.append(Freshet(secret="s" * 32, config=config, clock=clock))
        register(lives[-1], lambda mortal=mortal: here.go if mortal else None)
    async with AsyncExitStack() as stack:
        await hub.start()
        stack.push_async_callback(hub.stop)
        for live in reversed(lives):
            await stack.enter_async_context(live.lifespan())
        here = Pair(*lives, gates, clocks)
        here.client = await stack.enter_async_context(here.b.test_client())
        await here.client.subscribe(CHANNEL)
        try:
            yield here
        finally:
            here.go.set()
            clocks[0].now += 100 * LEASE
            gates.bury()
            (path / "hub").unlink()


Step = Callable[[Pair], Awaitable[Any]]


# ---------------------------------------------------------------------------------------------- what the owner is about


async def nothing_yet(here: Pair) -> None:
    """Nobody owns the channel."""


def starts(id: str, message: str = "") -> Step:
    async def start(here: Pair) -> None:
        await here.a.start(CHANNEL, message, id=id)
        await here.turns()

    return start


async def one_runs(here: Pair) -> None:
    await starts("r1")(here)
    await here.time_goes_by(1)


async def one_waits_for_another(here: Pair) -> None:
    await one_runs(here)
    await starts("r2")(here)


async def one_has_asked(here: Pair) -> None:
    await starts("r1", "ask")(here)
    await here.time_goes_by(1)


async def stops(here: Pair) -> None:
    await here.a.stop(CHANNEL, run="r1")


async def ends(here: Pair) -> None:
    here.go.set()
    await here.turns()


async def answers(here: Pair) -> None:
    for message in await here.b.messages(CHANNEL):
        for part in message["parts"]:
            if approval := part.get("approval"):
                await here.a.answer(CHANNEL, approval["id"])
    await here.turns()


HELD: dict[str, tuple[Step, Step]] = {
    "start": (nothing_yet, starts("r1")),
    "start behind another": (one_runs, starts("r2")),
    "end": (one_runs, ends),
    "end, and the next begins": (one_waits_for_another, ends),
    "stop, and the next begins": (one_waits_for_another, stops),
    "answer": (one_has_asked, answers),
}


# --------------------------------------------------------------------------------------------------- what becomes of it


async def dies(here: Pair) -> None:
    here.dies()
    await here.time_goes_by(3, for_a=False)


async def beats_and_dies(here: Pair) -> None:
    """What it has just asked for takes its time, in which it tells others what it has; then it is gone."""
    here.gates.shut = False
    await here.time_goes_by(0.5)
    here.gates.shut = True
    await dies(here)


async def stands_still_for_a_moment(here: Pair) -> None:
    """So long that it may not act under its lease any more, but not so long that another would have it."""
    await here.time_goes_by(0.75, for_a=False)
    here.clock_a.now += 0.75 * LEASE
    here.gates.open()
    await here.time_goes_by(4)


async def stands_still_for_long(here: Pair) -> None:
    await here.time_goes_by(3, for_a=False)
    here.clock_a.now += 3 * LEASE
    here.gates.open()
    await here.time_goes_by(4)


FATES: dict[str, Step] = {
    "dies": dies,
    "beats and dies": beats_and_dies,
    "stands still for a moment": stands_still_for_a_moment,
    "stands still for long": stands_still_for_long,
}


async def befall(path: Path, before: Step, act: Step, fate: Step, number: int) -> str:
    """The name of the gate with that number, at which it happens; empty: there is none."""
    async with pair(path) as here:
        await before(here)
        here.gates.arm(number)
        acting = asyncio.create_task(act(here))
        await here.turns()
        if not here.gates.held:
            await acting
            return ""
        await fate(here)
        here.go.set()
        if here.gates.shut:  # it is dead
            acting.cancel()
        with suppress(FreshetError, asyncio.CancelledError):
            await acting
        for _ in range(PATIENCE):  # a busy machine takes its time
            await here.time_goes_by(1, for_a=not here.gates.shut)
            await here.look()
            if not (left := await here.unfinished() | here.viewer_waits_for()):
                break
        assert left == {}, "nobody goes on"
        return here.gates.held


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("held", HELD)
async def test_what_runs_comes_to_an_end_whatever_befalls_its_owner_at_any_step(
    held: str, fate: str, tmp_path: Path
) -> None:
    assert await each_gate(lambda at: befall(tmp_path, *HELD[held], FATES[fate], at)) == []
