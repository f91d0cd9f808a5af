"""A node with everything in it that may wait, clients of one dialect, and what may happen to them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Self
from unittest.mock import patch

from freshet import Disconnect, Freshet, History, Session, Welcome
from freshet.config import Config, Timing, Tokens
from freshet.engines.memory import MemoryEngine
from freshet.errors import FreshetError
from freshet.runtime.clock import Clock
from freshet.testing import ManualClock
from tests.races.agreement import assert_agreement
from tests.races.clients import CentrifugeClient, Doors, RacingClient, SocketIOClient, UrlClient
from tests.races.gates import GateEngine, Gates
from tests.tools.patience import seconds

DIALECTS: dict[str, type[RacingClient]] = {
    "centrifuge": CentrifugeClient,
    "socketio": SocketIOClient,
    "url": UrlClient,
}
TURNS = 40
QUIET = 3  # turns in which nothing was ready
TIMING = Timing(presence_ttl=60, ping_interval=3600, hook_timeout=20, expiry_grace=1)
ROOM, SERVER = "room:a", "server:a"
Step = Callable[["World"], Awaitable[None]]


class World:
    """client: the one that is raced. bystander: another, of whom nothing is asked. channels: on which all agree."""

    def __init__(self, live: Freshet, engine: MemoryEngine, gates: Gates, clock: ManualClock, dialect: str) -> None:
        self.live = live
        self.node = live._node
        self.engine = engine
        self.gates = gates
        self.clock = clock
        self.doors = Doors(live)
        self.user = ""
        self.channels = [ROOM, SERVER]
        self.clients: list[RacingClient] = []
        self.kind = DIALECTS[dialect]
        self.client: RacingClient = self.kind(self.doors)

    @property
    def session(self) -> Session | None:
        return self.client.session

    async def turns(self) -> None:
        """Let what can happen happen: until nothing is ready in the loop, also not by what its selector has found."""
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
        quiet = 0
        for _ in range(TURNS):
            await asyncio.sleep(0)
            quiet = 0 if ready else quiet + 1
            if quiet == QUIET:
                break
        for client in self.clients:
            client.read()

    async def rest(self) -> None:
        """Until nothing happens any more by itself."""
        end = time.monotonic() + seconds(3)
        while time.monotonic() < end:
            await self.turns()
            if self._busy():
                await asyncio.sleep(0.005)  # who looks for a room's owner does so again in a moment
            if not self._busy() and not self.node.hub._unsubscribing:
                await self.turns()
                return
        raise AssertionError(f"there is no end: {self._busy()}")

    def _busy(self) -> list[str]:
        """The tasks that run."""
        rooms = self.live._rooms
        mine = [self.node.tasks, rooms._work, rooms._errands]
        if rooms._store is not None:
            mine += [rooms._leases._tasks, rooms._alarms._tasks]
        return [task.get_name() for tasks in mine for task in tasks._running]

    async def come(self, client: RacingClient, user: str = "alice") -> None:
        if self.node.state == "draining":  # see `Opening.admit`
            client.gone = True
            return
        self.user = user
        self.clients.append(client)
        client.connect()
        await self.turns()

    async def agree(self) -> None:
        """All parts agree, and what is published now reaches each subscriber once, and nobody else."""
        assert_agreement(self.node, self.engine, self.clients, failed=self.gates.fails)
        for channel in self.channels:
            probe = {"in": channel, "probe": True}
            await self.live.publish(channel, probe)
            await self.rest()
            for client in self.clients:
                session = client.session
                wanted = int(client.is_open and session is not None and channel in session.subscriptions)
                assert client.got.get(channel, []).count(probe) == wanted, (channel, client, client.got)
        assert_agreement(self.node, self.engine, self.clients, failed=self.gates.fails)

    def all_come_back(self, for_good: bool) -> None:
        """Nobody was told to stay away, unless that was meant."""
        told = [what for client in self.clients for what in client.for_good]
        assert for_good or told == []

    async def end(self) -> None:
        """All leave, and nothing of them stays."""
        for client in self.clients:
            if client.session is not None:
                client.leave()
        await self.rest()
        assert_agreement(self.node, self.engine, self.clients, failed=self.gates.fails)
        node = self.node
        left = (len(node.registry), node.registry.users, node.hub._channels, len(node.presence), self.engine._presence)
        assert left == (0, 0, {}, 0, {})


def _register(live: Freshet, world: Callable[[], World], gates: Gates) -> None:
    """All hooks that there are, each with a gate."""

    @live.on_connect
    async def connect(session: Session) -> Welcome:
        user = world().user
        await gates.come("on_connect")
        return Welcome(user=user, channels=[SERVER] if user == "alice" else [])

    @live.on_disconnect
    async def disconnect(session: Session) -> None:
        await gates.come("on_disconnect")

    @live.on_message
    async def message(session: Session, data: Any) -> None:
        await gates.come("on_message")

    @live.rpc("work")
    async def work(session: Session, data: Any) -> str:
        await gates.come("rpc")
        return "done"

    @live.rpc("join")
    async def join(session: Session, data: Any) -> None:
        await session.join(ROOM)

    @live.rpc("leave")
    async def leave(session: Session, data: Any) -> None:
        await session.leave(ROOM)

    keep = History(size=100, ttl=600)
    room = live.channel("room:*", history=keep, presence=True, join_leave=True, publish="subscriber", read="subscriber")
    live.channel("server:*", history=keep, presence=True, subscribe="nobody")

    @room.on_subscribe
    async def may_subscribe(session: Session) -> None:
        await gates.come("on_subscribe")

    @room.on_publish
    async def may_publish(session: Session, data: Any) -> None:
        await gates.come("on_publish")


def _register_events(live: Freshet, gates: Gates) -> None:
    namespace = live.namespace("/", recovery=60)

    @namespace.on("event")
    async def event(session: Session) -> str:
        await gates.come("event")
        return "done"

    @namespace.on("concurrent", concurrent=True)
    async def concurrent(session: Session) -> str:
        await gates.come("concurrent event")
        return "done"

    @namespace.on("join at once", concurrent=True)
    async def join_at_once(session: Session) -> None:
        await session.join(ROOM)


Prepare = Callable[[Freshet, Gates, Clock], None]
"""What else an application has in it."""


@asynccontextmanager
async def running(dialect: str, prepare: Prepare | None = None) -> AsyncIterator[World]:
    clock, gates = ManualClock(), Gates()
    engine = MemoryEngine(TIMING.presence_ttl, clock)
    with patch("freshet.app.engine_of", lambda config, clock: GateEngine(engine, gates)):
        live = Freshet(config=Config(tokens=Tokens(anonymous=True), timing=TIMING), clock=clock)
    world: World
    _register(live, lambda: world, gates)
    _register_events(live, gates)
    if prepare is not None:
        prepare(live, gates, clock)
    async with live.lifespan():
        world = World(live, engine, gates, clock, dialect)
        bystander = CentrifugeClient(world.doors)
        await world.come(bystander, "bob")
        bystander.subscribe("room:b")
        await world.rest()
        yield world
        gates.release()


# -------------------------------------------------------------------------------------------- what is held on its way


async def nobody(world: World) -> None:
    """The client has not come yet."""


async def connected(world: World) -> None:
    await world.come(world.client)
    await world.rest()


async def in_room(world: World) -> None:
    await connected(world)
    world.client.subscribe(ROOM)
    await world.rest()


async def connects(world: World) -> None:
    await world.come(world.client)


async def subscribes(world: World) -> None:
    if world.client.is_open:
        world.client.subscribe(ROOM)


async def unsubscribes(world: World) -> None:
    if world.client.is_open:
        world.client.unsubscribe(ROOM)


async def publishes(world: World) -> None:
    if world.client.is_open:
        world.client.publish(ROOM, {"in": ROOM, "from": "the client"})


def calls(method: str) -> Step:
    async def call(world: World) -> None:
        if world.client.is_open:
            world.client.call(method)

    return call


def reads(method: str) -> Step:
    async def read(world: World) -> None:
        if isinstance(world.client, CentrifugeClient) and world.client.is_open:
            world.client.ask(method, ROOM)

    return read


async def leaves(world: World) -> None:
    world.client.leave()


async def leaves_the_namespace(world: World) -> None:
    if isinstance(world.client, SocketIOClient):
        world.client.leave_namespace()


async def resumes(world: World) -> None:
    """As the same client, on a new connection; the server may not know yet that the old one is dead."""
    if isinstance(world.client, SocketIOClient):
        again = SocketIOClient(world.doors, world.client.pid)
        again.known = set(world.client.known)
        world.client.gone = True
        await world.come(again)
        world.client = again
    else:
        await world.come(world.kind(world.doors))


async def cut_and_resumes(world: World) -> None:
    world.client.leave()
    await resumes(world)


# ---------------------------------------------------------------------------------------------- what the server does


async def server_subscribes(world: World) -> None:
    await world.live.subscribe("alice", ROOM)


async def server_unsubscribes(world: World) -> None:
    await world.live.unsubscribe("alice", ROOM)


async def server_moves(world: World) -> None:
    """Out, and in again."""
    await world.live.unsubscribe("alice", ROOM)
    await world.live.subscribe("alice", ROOM)


async def server_disconnects(world: World) -> None:
    await world.live.disconnect("alice")


async def server_cuts(world: World) -> None:
    """So that the client comes again."""
    await world.live.disconnect("alice", Disconnect.force_reconnect())


async def server_refreshes(world: World) -> None:
    await world.live.refresh("alice", expires=world.clock.now + 3600)


async def server_publishes(world: World) -> None:
    await world.live.publish(ROOM, {"in": ROOM, "from": "the server"})


async def connection_expires(world: World) -> None:
    await world.live.refresh("alice", expires=world.clock.now + 1)
    await world.clock.advance(4)


async def subscription_expires(world: World) -> None:
    session = world.session
    if session is not None and ROOM in session.subscriptions:
        session.subscriptions[ROOM].expires = world.clock.now + 1
        world.node.wheel.schedule(session, 0)
    await world.clock.advance(4)


async def presence_is_renewed(world: World) -> None:
    await world.clock.advance(32)


async def time_is_over(world: World) -> None:
    """For hooks."""
    await world.clock.advance(22)


async def node_drains(world: World) -> None:
    await world.node.drain()


async def another_comes(world: World) -> None:
    """Of the same user."""
    other = world.kind(world.doors)
    await world.come(other)
    if other.is_open:
        other.subscribe(ROOM)


HELD: dict[str, tuple[Step, Step]] = {
    "connect": (nobody, connects),
    "subscribe": (connected, subscribes),
    "unsubscribe": (in_room, unsubscribes),
    "publish": (in_room, publishes),
    "rpc": (in_room, calls("work")),
    "event": (in_room, calls("event")),
    "concurrent event": (in_room, calls("concurrent")),
    "history": (in_room, reads("history")),
    "presence": (in_room, reads("presence")),
    "leave": (in_room, leaves),
    "leave the namespace": (in_room, leaves_the_namespace),
    "resume": (in_room, resumes),
    "cut and resume": (in_room, cut_and_resumes),
    "server subscribe": (connected, server_subscribes),
    "server unsubscribe": (in_room, server_unsubscribes),
    "server disconnect": (in_room, server_disconnects),
    "server publish": (in_room, server_publishes),
    "subscription expiry": (in_room, subscription_expires),
    "connection expiry": (in_room, connection_expires),
    "renewal": (in_room, presence_is_renewed),
    "drain": (in_room, node_drains),
}
"""What is held at each of its waits: what comes before, and what it is."""

OPERATIONS: dict[str, Step] = {
    "subscribe": subscribes,
    "unsubscribe": unsubscribes,
    "publish": publishes,
    "join by its hook": calls("join"),
    "leave by its hook": calls("leave"),
    "join at once": calls("join at once"),
    "leave": leaves,
    "leave the namespace": leaves_the_namespace,
    "resume": resumes,
    "another comes": another_comes,
    "server subscribe": server_subscribes,
    "server unsubscribe": server_unsubscribes,
    "server moves": server_moves,
    "server disconnect": server_disconnects,
    "server cut": server_cuts,
    "server refresh": server_refreshes,
    "server publish": server_publishes,
    "connection expiry": connection_expires,
    "subscription expiry": subscription_expires,
    "renewal": presence_is_renewed,
    "timeout": time_is_over,
    "drain": node_drains,
}
"""What happens meanwhile."""

MEANT = {"server disconnect", "server unsubscribe", "server moves", "leave by its hook"}
"""What ends a session, or a subscription, for good. After anything else, an official client comes back by itself."""


async def fail(dialect: str, failing: str, at: int) -> str:
    """As `race`, but the gate with the number `at` fails: the engine is away, or a hook refuses."""
    return await fail_within(running(dialect), *HELD[failing], at, for_good=failing in MEANT)


async def fail_within(
    running: AbstractAsyncContextManager[World], before: Step, act: Step, at: int, *, for_good: bool = True
) -> str:
    """for_good: whether clients may be sent away so."""
    async with running as world:
        await before(world)
        world.gates.arm(at, fails=True)
        with suppress(FreshetError):
            await act(world)
        await world.rest()
        if not world.gates.held:
            return ""
        await world.clock.advance(TIMING.presence_ttl + 1)  # by which the engine forgets whom it was not told to forget
        await world.rest()
        await world.agree()
        world.all_come_back(for_good)
        await world.end()
        return world.gates.held


async def race(dialect: str, held: str, operation: str, hold: int) -> str:
    """Hold the gate with the number `hold`, let the operation happen, open the gate, and compare.

    The answer is the name of the gate; empty: there is none of that number any more.
    """
    for_good = held in MEANT or operation in MEANT
    return await race_within(running(dialect), *HELD[held], OPERATIONS[operation], hold, for_good=for_good)


async def race_within(
    running: AbstractAsyncContextManager[World],
    before: Step,
    act: Step,
    operate: Step,
    hold: int,
    *,
    for_good: bool = True,
) -> str:
    """for_good: as of `fail_within`."""
    async with running as world:
        await before(world)
        world.gates.arm(hold)
        acting = asyncio.create_task(act(world))
        await world.turns()
        await world.turns()
        if not world.gates.held:
            world.gates.release()
            await acting
            return ""
        operating = asyncio.create_task(operate(world))
        await world.turns()
        world.gates.release()
        for task in (acting, operating):
            async with asyncio.timeout(seconds(5)):
                await task
        await world.rest()
        await world.agree()
        world.all_come_back(for_good)
        await world.end()
        return world.gates.held


class NoFailures(logging.Handler):
    """Nothing is logged with a traceback meanwhile."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.failures: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.failures.append(self.format(record))

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *arguments: object) -> None:
        logging.getLogger().removeHandler(self)
