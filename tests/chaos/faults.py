"""The faults. Each begins under load, does its harm, and returns when all is whole again.

What a fault asserts is that the harm was done, or a bound that the ledger does not see.
"""

import asyncio
import os
import pickle
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from itertools import count
from pathlib import Path

import httpx

from freshet.engines.nats.messages import Names
from tests.chaos import apart
from tests.chaos.clients import SMALL, requesting
from tests.chaos.intruders import strangers_forge_positions
from tests.chaos.wire import Weather
from tests.chaos.world import World
from tests.tools.nats import Nats
from tests.tools.patience import eventually
from tests.tools.redis import Redis
from tests.tools.serving import HOST, Server, hubs_of, workers_of

MIB = 1 << 20
Fault = Callable[[World], Awaitable[None]]


async def nothing(_: World) -> None:
    """What the others are compared with."""
    await asyncio.sleep(10)


# ----------------------------------------------------------------------------------------------------------- the broker


async def broker_is_killed(it: World) -> None:
    assert it.broker is not None
    await asyncio.to_thread(it.broker.kill)
    await asyncio.sleep(2)
    await asyncio.to_thread(it.broker.start)


async def broker_forgets(it: World) -> None:
    await broker_is_killed(it)
    await a_gap_is_notified(it)


async def a_gap_is_notified(it: World) -> None:
    await eventually(lambda: any(None in numbers for _, numbers in it.ledger.received), 20, "a gap to be notified")


async def broker_stands_still(it: World) -> None:
    assert it.broker is not None
    it.broker.pause()
    await asyncio.sleep(3)
    it.broker.go_on()


async def broker_is_full(it: World) -> None:
    """It refuses what would need more memory, for a while."""
    assert isinstance(it.broker, Redis)
    failed = it.failed
    await asyncio.to_thread(it.broker.cli, "CONFIG", "SET", "maxmemory", "1mb")
    await eventually(lambda: it.failed > failed, 10, "a publication to be refused")
    await asyncio.sleep(1)
    await asyncio.to_thread(it.broker.cli, "CONFIG", "SET", "maxmemory", "0")


async def broker_evicts(it: World) -> None:
    """It throws out what it likes, to make room, for a second."""
    assert isinstance(it.broker, Redis)
    await asyncio.to_thread(it.broker.cli, "CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    used = next(line for line in it.broker.cli("INFO", "memory").splitlines() if line.startswith("used_memory:"))
    await asyncio.to_thread(it.broker.cli, "CONFIG", "SET", "maxmemory", str(int(used.partition(":")[2]) - 50_000))
    await asyncio.sleep(1)
    assert "evicted_keys:0" not in it.broker.cli("INFO", "stats")
    await asyncio.to_thread(it.broker.cli, "CONFIG", "SET", "maxmemory", "0")
    await a_gap_is_notified(it)


GARBAGE = (b"", b"\x00" * 100_000, pickle.dumps([Path("/")]), b"[" * 50_000, b"\x95\xff\xff\xff", b"p1:9:" + b"x" * 99)


async def broker_is_fed_garbage(it: World) -> None:
    """Somebody else publishes on every topic that the servers subscribe to."""
    if isinstance(it.broker, Redis):
        topics = (await asyncio.to_thread(it.broker.cli, "PUBSUB", "CHANNELS", "*")).splitlines()
        assert len(topics) > it.load.channels
        for topic in topics:
            for data in GARBAGE:
                await asyncio.to_thread(it.broker.cli, "-x", "PUBLISH", topic, stdin=data)
        return
    assert isinstance(it.broker, Nats)
    names = Names("freshet")
    channels = [f"c{number}" for number in range(it.load.channels)]
    subjects = [names.channel(kind, channel) for kind in ("flow", "once") for channel in channels]
    _, writer = await asyncio.open_connection(HOST, it.broker.port)
    writer.write(b'CONNECT {"verbose":false}\r\n')
    for subject in (*subjects, names.node(None)):
        for data in GARBAGE:
            writer.write(f"PUB {subject} {len(data)}\r\n".encode() + data + b"\r\n")
    await writer.drain()
    await asyncio.sleep(1)
    writer.close()


# ----------------------------------------------------------------------------------------- the connection to the broker


async def connection_falls_silent(it: World) -> None:
    """Nothing passes, and nothing says so."""
    assert it.relay is not None
    it.relay.silence()
    await asyncio.sleep(4)
    it.relay.mend()


async def connection_breaks(it: World) -> None:
    assert it.relay is not None
    for _ in range(3):
        it.relay.cut()
        it.relay.mend()
        await asyncio.sleep(0.7)


async def connection_is_slow(it: World) -> None:
    """150 to 250 ms each way, and it breaks once meanwhile."""
    assert it.relay is not None
    it.relay.delay(0.15, 0.25)
    await asyncio.sleep(3)
    it.relay.cut()
    it.relay.mend()
    await asyncio.sleep(2)
    it.relay.delay(0, 0)


async def packets_are_lost(it: World) -> None:
    """Between a node and the broker, each way: 5 % of them, 1 % come twice, all take 150 to 250 ms and overtake."""
    assert it.wire is not None
    it.wire.weather = Weather(loss=0.05, repeats=0.01, least=0.15, most=0.25)
    await asyncio.sleep(10)
    assert it.wire.lost > 5
    it.wire.weather = Weather()


async def network_is_parted(it: World) -> None:
    """What one node and the broker send each other is lost, and neither is notified."""
    failed = it.failed
    apart.part(apart=True)
    await asyncio.sleep(4)
    apart.part(apart=False)
    assert it.failed > failed


# ------------------------------------------------------------------------------------------------------------ the nodes


async def node_is_killed(it: World) -> None:
    await asyncio.to_thread(it.servers[0].kill)


async def node_restarts(it: World) -> None:
    """Killed, and another in its place."""
    await asyncio.to_thread(it.servers[0].kill)
    await it.renew(0)


async def node_drains(it: World) -> None:
    """It ends by itself: `stop` would kill it after a grace, and give the code of the signal."""
    assert await asyncio.to_thread(it.servers[0].stop) == 0


async def nodes_are_renewed(it: World) -> None:
    """A rolling deploy: each drains, and a new one takes its place before the next one goes."""
    it.code = {}
    for index, server in enumerate(it.servers):
        assert await asyncio.to_thread(server.stop) == 0
        await it.renew(index)


async def clock_is_turned(it: World) -> None:
    """An hour ahead, an hour back, and right again."""
    for hours in (1, -1, 0):
        it.turn(hours * 3600)
        await asyncio.sleep(2)
        assert abs(await _clock_of(it.servers[0]) - time.time() - hours * 3600) < 60


async def _clock_of(server: Server) -> float:
    async with httpx.AsyncClient() as http:
        return parsedate_to_datetime((await http.get(server.http("/health/live"))).headers["date"]).timestamp()


async def worker_is_killed(it: World) -> None:
    for _ in range(2):
        os.kill(it.chance.choice(workers_of(it.servers[0].pid)), signal.SIGKILL)
        await asyncio.sleep(1)
    await eventually(lambda: len(workers_of(it.servers[0].pid)) == it.place.workers, 10, "others in their place")


async def hub_is_killed(it: World) -> None:
    """And with it the logs of the channels that it had; and a worker, whose clients come back to other logs."""
    [hub] = await eventually(lambda: hubs_of(it.servers[0].pid), 10, "the second hub")
    for process in (workers_of(it.servers[0].pid)[0], hub):
        os.kill(process, signal.SIGKILL)
    await eventually(lambda: hubs_of(it.servers[0].pid) not in ([], [hub]), 10, "another in its place")
    await eventually(lambda: len(workers_of(it.servers[0].pid)) == it.place.workers, 10, "another worker")


# ---------------------------------------------------------------------------------------------------------- the clients


async def all_are_cut(it: World) -> None:
    for _ in range(3):
        for each in it.subscribers:
            each.cut()
        await asyncio.sleep(1)


async def some_are_cut_all_the_time(it: World) -> None:
    end = time.monotonic() + 4
    while time.monotonic() < end:
        it.chance.choice(it.subscribers).cut()
        await asyncio.sleep(4 / len(it.subscribers))


async def clients_fall_silent(it: World) -> None:
    """Half open: neither side notices that the other is gone. The server evicts them, and notifies the others."""
    assert it.relay is not None
    assert await _clients_of(it, 0) > 0
    it.relay.silence()

    async def are_gone() -> bool:
        return await _clients_of(it, 0) == 0

    await eventually(are_gone, 6, "the server to evict clients that do not answer")
    it.relay.mend()


async def _clients_of(it: World, index: int) -> int:
    return int((await it.call(index, "info"))["nodes"][0]["num_clients"])


async def some_do_not_read(it: World) -> None:
    """They sleep while much is published in their channel, are cut, and come back for it. Memory stays in bounds."""
    before = [_memory(server) for server in it.servers]
    it.filling["c0"] = "x" * 200_000
    asleep = {each: each.back for each in it.sleepers()}
    for each in asleep:
        assert each.transport is not None
        each.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        each.awake.clear()
    await asyncio.sleep(4)
    it.filling.clear()
    for each in asleep:
        each.awake.set()
    await eventually(lambda: all(each.back > back for each, back in asleep.items()), 20, "their return")
    for server, memory in zip(it.servers, before, strict=True):
        assert _memory(server) < memory + 100 * MIB


def _memory(server: Server) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def some_come_and_go(it: World) -> None:
    """Channels without end, each for a moment: nothing of them stays with the broker or in the servers."""
    numbers, rest = count(), time.monotonic() + 6

    async def wander(address: str) -> None:
        async with requesting(address) as request:
            while time.monotonic() < rest:
                channel = f"churn{next(numbers)}"
                for method in ("subscribe", "unsubscribe"):
                    await request({method: {"channel": channel}})

    wanderers = [asyncio.create_task(wander(it.addresses[index % len(it.addresses)])) for index in range(20)]
    await asyncio.sleep(3)
    memory = [_memory(server) for server in it.servers]
    await asyncio.gather(*wanderers)
    assert next(numbers) > 500
    for server, then in zip(it.servers, memory, strict=True):
        assert _memory(server) < then + 12 * MIB
    await eventually(lambda: not _topics(it, "churn"), 10, "no topic of a channel without subscribers")


def _topics(it: World, part: str) -> list[str]:
    """Those that the servers are subscribed to at the broker."""
    return it.broker.cli("PUBSUB", "CHANNELS", f"*{part}*").split() if isinstance(it.broker, Redis) else []


# ------------------------------------------------------------------------------------------------------- one by one


SOAK = (
    broker_is_killed,
    broker_stands_still,
    connection_falls_silent,
    connection_breaks,
    connection_is_slow,
    node_restarts,
    nodes_are_renewed,
    all_are_cut,
    some_are_cut_all_the_time,
    strangers_forge_positions,
    some_come_and_go,
)


async def anything_happens(it: World) -> None:
    """One fault after the other, by chance, for as long as was asked for."""
    end = time.monotonic() + it.load.soak
    while time.monotonic() < end:
        await it.chance.choice(SOAK)(it)
        await asyncio.sleep(1)
