"""Rooms on servers that are killed and paused: on Redis, several processes, one file."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from freshet.stores.sqlite import SqliteStore
from tests.rooms.checking import APP, FAULTS, LEASE, CheckedRooms, Kept, acknowledged, counting, judged, read
from tests.rooms.counting import CountingClient
from tests.tools.linearizability import Increment
from tests.tools.nats import nats
from tests.tools.patience import seconds
from tests.tools.redis import redis
from tests.tools.serving import serving

EACH = 20  # operations of each client, while a fault lasts, and behind it


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


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["redis", "nats"])
async def test_whatever_happens_to_owners_other_nodes_go_on_and_no_acknowledged_write_is_lost_or_done_twice(
    kind: str, tmp_path: Path
) -> None:
    """`make rooms` does so for longer."""
    async with counting(CheckedRooms(kind, tmp_path, nodes=3, rooms=3, clients=9)) as rooms:
        for fault in FAULTS:
            await rooms.suffer(fault, EACH)
    verdict = rooms.verdict
    assert verdict.wrong == []
    assert (verdict.lost, verdict.doubled, verdict.stale, verdict.disordered) == (0, 0, 0, 0)
    assert verdict.takeovers >= 3
    assert verdict.acknowledged >= 9 * 2 * EACH


K = Kept("1", "10:a")


def seen(*answers: int | None) -> list[tuple[str, Increment]]:
    """Operations one after the other; None: it was refused."""
    outcomes = [("ok" if value else "refused", value) for value in answers]
    return [(str(at), Increment(at, at + 0.5, *it)) for at, it in enumerate(outcomes, 1)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("history", "kept", "final", "what"),
    [
        (seen(1, 2), [K, Kept("2", "11:b")], 2, {"takeovers": 1}),
        (seen(1, 2), [K, Kept("2", "10:b")], 2, {"takeovers": 0}),
        (seen(1, 2), [K], 1, {"lost": 1}),
        (seen(1, 2), [Kept("2", "10:a"), K], 2, {"lost": 2}),
        (seen(1), [K], 2, {"lost": 1}),
        (seen(1, 2), [K, Kept("2", "10:a"), Kept("1", "10:a")], 3, {"doubled": 1}),
        (seen(1, 2, 3), [K, Kept("2", "11:b"), Kept("3", "10:a")], 3, {"stale": 1}),
        (seen(1, 1), [K, Kept("2", "10:a")], 2, {"lost": 1, "disordered": 2}),
        (seen(1, None), [K, Kept("2", "10:a")], 2, {"wrong": 1}),
    ],
)
def test_what_is_wrong_is_counted(
    history: list[tuple[str, Increment]], kept: list[Kept], final: int, what: dict[str, int]
) -> None:
    verdict = judged(history, kept, final)
    assert {name: verdict.wrong and 1 if name == "wrong" else getattr(verdict, name) for name in what} == what
    assert verdict.acknowledged + verdict.refused == len(history)


@pytest.mark.timeout(150)
async def test_the_workers_of_a_host_share_its_rooms_and_one_that_is_killed_is_replaced(tmp_path: Path) -> None:
    env = environment("memory://", tmp_path / "rooms.db") | {"FRESHET_ROOMS__LEASE": "60"}
    with serving(APP, "--workers", "2", env=env) as server:
        clients = [CountingClient(number, [server]) for number in range(6)]
        until = asyncio.Event()
        running = [asyncio.create_task(client.run(until)) for client in clients]
        await acknowledged(clients, EACH)
        worker = next(client.pids[-1] for client in clients if client.pids)
        os.kill(worker, signal.SIGKILL)  # its leases are released at once, whatever their time
        await acknowledged(clients, EACH)
        until.set()
        await asyncio.gather(*running)
        assert len({pid for client in clients for pid in client.pids}) > 1
    history = [each for client in clients for each in zip(client.ids, client.history, strict=True)]
    store = SqliteStore(f"sqlite:///{tmp_path / 'rooms.db'}")
    await store.start()
    verdict = judged(history, *await read(store, clients[0].channel))
    await store.stop()
    assert verdict.wrong == []
    assert (verdict.lost, verdict.doubled, verdict.stale, verdict.disordered) == (0, 0, 0, 0)


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
