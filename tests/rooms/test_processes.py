"""Rooms on servers that are killed and paused: on Redis, several processes, one file."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from freshet.stores.sqlite import SqliteStore
from tests.rooms.counting import CHANNEL, CountingClient
from tests.tools.linearizability import violations
from tests.tools.nats import nats
from tests.tools.patience import eventually, seconds
from tests.tools.redis import redis
from tests.tools.serving import Server, serving

LEASE = 1.0
CLIENTS = 6
EACH = int(os.environ.get("FRESHET_TEST_INCREMENTS", "300")) // CLIENTS  # of each client, before and after a fault
NODES = int(os.environ.get("FRESHET_TEST_NODES", "2"))
APP = "tests.rooms.counter_app:live"


def environment(engine: str, path: Path) -> dict[str, str]:
    return {
        "FRESHET_ENGINE": engine,
        "FRESHET_ROOMS__STORE": f"sqlite:///{path}",
        "FRESHET_ROOMS__LEASE": str(LEASE),
        "FRESHET_TOKENS__ANONYMOUS": "true",
    }


@pytest.fixture(scope="module", params=["redis", "nats"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    with redis() if request.param == "redis" else nats() as broker:
        yield broker.url


@pytest.fixture
def servers(engine: str, tmp_path: Path) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        env = environment(engine, tmp_path / "rooms.db")
        yield [stack.enter_context(serving(APP, env=env)) for _ in range(NODES)]


async def kept(path: Path) -> dict[str, Any]:
    store = SqliteStore(f"sqlite:///{path}")
    await store.start()
    found = await store.get(CHANNEL, ["value"])
    await store.stop()
    return found


def owner_of(clients: list[CountingClient]) -> int:
    return next((client.pids[-1] for client in clients if client.pids), 0)


async def counted(clients: list[CountingClient], more: int) -> None:
    """Until each has counted so often again, and was acknowledged."""
    targets = [sum(it.outcome == "ok" for it in client.history) + more for client in clients]

    def done() -> bool:
        pairs = zip(clients, targets, strict=True)
        return all(sum(it.outcome == "ok" for it in client.history) >= target for client, target in pairs)

    await eventually(done, 40, "all clients to count")


@pytest.mark.timeout(150)
@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_whatever_happens_to_the_owner_another_node_goes_on_and_no_acknowledged_write_is_lost_or_done_twice(
    servers: list[Server], tmp_path: Path, fault: str
) -> None:
    clients = [CountingClient(number, servers) for number in range(CLIENTS)]
    until = asyncio.Event()
    running = [asyncio.create_task(client.run(until)) for client in clients]
    await counted(clients, EACH)
    owner = next(server for server in servers if server.pid == owner_of(clients))
    survivors = [client for client in clients if servers[(client._at - 1) % NODES] is not owner]
    if fault == "kill":
        owner.kill()  # wherever it is
    else:
        survivors[0].extra = {"stop": owner.pid}  # in a hook: stopped while it has the file, it would keep the file
    try:
        await counted(survivors, EACH)
        assert owner_of(survivors) != owner.pid
    finally:
        if fault == "pause":
            os.kill(owner.pid, signal.SIGCONT)
    await counted(clients, EACH)
    until.set()
    await asyncio.gather(*running)
    history = [it for client in clients for it in client.history]
    final = (await kept(tmp_path / "rooms.db"))["value"]
    assert not list(violations(history, int(msgspec.msgpack.decode(final))))
    assert sum(it.outcome == "ok" for it in history) >= 2 * EACH * CLIENTS


@pytest.mark.timeout(150)
async def test_the_workers_of_a_host_share_its_rooms_and_one_that_is_killed_is_replaced(tmp_path: Path) -> None:
    env = environment("memory://", tmp_path / "rooms.db") | {"FRESHET_ROOMS__LEASE": "60"}
    with serving(APP, "--workers", "2", env=env) as server:
        clients = [CountingClient(number, [server]) for number in range(CLIENTS)]
        until = asyncio.Event()
        running = [asyncio.create_task(client.run(until)) for client in clients]
        await counted(clients, EACH)
        worker = owner_of(clients)
        os.kill(worker, signal.SIGKILL)  # its leases are released at once, whatever their time
        await counted(clients, EACH)
        until.set()
        await asyncio.gather(*running)
        assert len({pid for client in clients for pid in client.pids}) > 1
    history = [it for client in clients for it in client.history]
    final = (await kept(tmp_path / "rooms.db"))["value"]
    assert not list(violations(history, int(msgspec.msgpack.decode(final))))


def received(socket: Any) -> str:
    return str(socket.recv(timeout=seconds(10)))


@pytest.mark.parametrize("when", ["before the write", "behind the write"])
def test_of_a_crash_between_a_write_and_what_goes_out_nobody_has_heard_what_is_not_kept(
    tmp_path: Path, when: str
) -> None:
    env = environment("memory://", tmp_path / "rooms.db")
    with serving(APP, env=env) as server, connect(server.ws("/channels/loud:x")) as alice:
        assert received(alice) == '{"kept":0}'
        alice.send('{"die": ""}')
        assert received(alice) == '{"value":1}'
        alice.send(f'{{"die": "{when}"}}')
        with pytest.raises(ConnectionClosed):
            alice.recv(timeout=seconds(10))
        assert server.ended() == -signal.SIGKILL
    with serving(APP, env=env) as server, connect(server.ws("/channels/loud:x")) as alice:
        kept = 1 if when == "before the write" else 2
        assert received(alice) == f'{{"kept":{kept}}}'
