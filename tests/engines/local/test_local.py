"""The workers of one host: the contract over a Unix socket, and what happens when one of the two ends dies."""

import asyncio
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from freshet.engines.base import Engine, Receiver
from freshet.engines.local.engine import LocalEngine
from freshet.engines.local.host_hub import HostHub
from freshet.engines.local.messages import EngineSettings
from freshet.engines.memory import MemoryEngine
from freshet.errors import EngineUnavailable
from freshet.model.events import Joined, Left
from tests.contracts.engine import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.engine import ALICE, KEEP, LOGGED
from tests.contracts.nodes import *  # noqa: F403
from tests.contracts.nodes import Peer
from tests.contracts.own_events import *  # noqa: F403
from tests.tools.patience import eventually


def make(wanted: EngineSettings) -> Engine:
    assert wanted.url == "memory://"
    return MemoryEngine(wanted.presence_time, log_memory=wanted.log_memory)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[HostHub]:
    hub = HostHub(str(tmp_path / "hub"), make)
    await hub.start()
    yield hub
    await hub.stop()


@pytest.fixture
def another(hub: HostHub, tmp_path: Path) -> Callable[[], Engine]:
    return lambda: LocalEngine(str(tmp_path / "hub"), EngineSettings("memory://"))


@pytest.fixture
def engine(another: Callable[[], Engine]) -> Engine:
    return another()


async def test_without_a_hub_a_worker_does_not_begin(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="no hub at"):
        await LocalEngine(str(tmp_path / "nothing"), EngineSettings("memory://")).start("node", None)  # type: ignore[arg-type]


async def test_nobody_else_may_use_the_socket(hub: HostHub, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "hub").stat().st_mode) & 0o077 == 0


async def test_the_clients_of_a_worker_that_died_are_gone_and_the_others_do_not_notice(
    peers: tuple[Peer, Peer],
) -> None:
    one, two = peers
    await two.engine.subscribe("a", KEEP)
    await one.engine.subscribe("a", KEEP)
    await one.engine.set_presence("a", "a1", ALICE)
    assert isinstance(one.engine, LocalEngine)
    await one.engine.stop()
    assert await two.delivered.count(2) == [Joined("a", ALICE), Left("a", ALICE)]
    assert await two.engine.presence("a") == {}
    await two.engine.publish("a", b"1", LOGGED)
    await two.delivered.count(3)
    assert two.delivered.suspicions == []


async def test_a_worker_comes_back_to_a_hub_that_was_started_again(
    hub: HostHub, peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    one, two = peers
    await one.engine.subscribe("a", KEEP)
    await hub.stop()
    await eventually(lambda: one.engine._connection is None and two.engine._connection is None)  # type: ignore[attr-defined]
    with pytest.raises(EngineUnavailable, match="away"):
        await one.engine.publish("a", b"1", LOGGED)
    (tmp_path / "hub").unlink(missing_ok=True)
    again = HostHub(str(tmp_path / "hub"), make)
    await again.start()
    await eventually(lambda: one.delivered.suspicions == [""] and two.delivered.suspicions == [""])
    await two.engine.publish("a", b"1", LOGGED)
    await one.delivered.count(1)
    await again.stop()


async def test_a_hub_that_stays_away_is_reported_once_and_again_when_it_is_back(
    hub: HostHub, engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0
    connect = LocalEngine._connect

    async def counted(self: LocalEngine) -> None:
        nonlocal attempts
        attempts += 1
        await connect(self)

    monkeypatch.setattr(LocalEngine, "_connect", counted)
    await engine.start("node", Receiver(lambda event: None, lambda channel: None, lambda message: None))
    await engine.subscribe("a", KEEP)
    await hub.stop()
    await eventually(lambda: attempts >= 4, 5, "several attempts")
    (tmp_path / "hub").unlink(missing_ok=True)
    again = HostHub(str(tmp_path / "hub"), make)
    await again.start()
    await eventually(lambda: again.nodes == ["node"])
    await eventually(lambda: len(caplog.messages) == 2)
    assert ["connection to the hub lost" in line for line in caplog.messages] == [True, False]
    assert "connected to the hub again" in caplog.messages[1]
    await engine.stop()
    await again.stop()


async def test_what_a_worker_takes_back_is_forgotten_with_its_connection(hub: HostHub, engine: Engine) -> None:
    """So that a thousand clients that leave a host whose hub is gone are not a thousand errors."""
    await engine.start("node", Receiver(lambda event: None, lambda channel: None, lambda message: None))
    await engine.subscribe("a", KEEP)
    await engine.set_presence("a", "a1", ALICE)
    leaving = asyncio.create_task(engine.unsubscribe("a"))  # under way when the hub goes
    await hub.stop()
    await leaving
    await eventually(lambda: engine._connection is None)  # type: ignore[attr-defined]
    await engine.unsubscribe("a")
    await engine.set_presence("a", "a1", None)
    with pytest.raises(EngineUnavailable):
        await engine.set_presence("a", "a1", ALICE)
    await engine.stop()


async def test_a_request_under_way_when_the_connection_is_cut_fails(
    hub: HostHub, another: Callable[[], Engine]
) -> None:
    engine = another()
    peer = Peer(engine, Delivered())  # noqa: F405
    await engine.start("one", peer.delivered.receiver)
    asked = asyncio.create_task(engine.publish("a", b"1", LOGGED))
    await asyncio.sleep(0)
    assert isinstance(engine, LocalEngine)
    assert engine._connection is not None
    engine._connection.close()
    with pytest.raises(EngineUnavailable, match="lost"):
        await asked
    await engine.stop()


@pytest.mark.parametrize(
    "garbage",
    [b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x00", b"\x00\x00\x00\x02\x91\x05", b"GET / HTTP/1.1\r\n\r\n" * 100],
    ids=["no message", "nothing", "another message", "another protocol"],
)
async def test_what_makes_no_sense_ends_its_own_connection_and_no_other(
    hub: HostHub, peers: tuple[Peer, Peer], tmp_path: Path, garbage: bytes
) -> None:
    one, _ = peers
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(stranger, str(tmp_path / "hub"))
        await loop.sock_sendall(stranger, garbage)
        assert await asyncio.wait_for(loop.sock_recv(stranger, 1), 5) == b""
    assert (await one.engine.publish("a", b"1", LOGGED)).offset == 1


async def test_what_a_worker_that_died_owned_is_free_at_once(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    first = await one.engine.take_lease("room", "one", 3600)
    await one.engine.stop()

    async def taken() -> bool:
        return (await two.engine.take_lease("room", "two", 60)).fence > first.fence

    await eventually(taken, 5, "the lease")
