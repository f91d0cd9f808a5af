"""The workers of one host: the contract over a Unix socket, and what happens when one of the two ends dies."""

import asyncio
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from freshet.engines.base import Engine, Lease, Receiver, ToPublish
from freshet.engines.local.engine import LocalEngine
from freshet.engines.local.host_hub import ConnectedWorker, HostHub
from freshet.engines.local.link import HubLink
from freshet.engines.local.messages import PORTION, EngineSettings, HubConnection, HubReply, HubSubscribe
from freshet.engines.memory import MemoryEngine
from freshet.errors import EngineUnavailable
from freshet.model.events import Joined, Left
from freshet.model.log import ClientInfo, History, Kind, Position, PublishOptions
from tests.contracts.engine import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.engine import ALICE, KEEP, LOGGED, Delivered
from tests.contracts.nodes import *  # noqa: F403
from tests.contracts.nodes import Peer
from tests.contracts.own_events import *  # noqa: F403
from tests.contracts.owning import *  # noqa: F403
from tests.tools.patience import eventually, seconds

CHANNELS = [f"c{number}" for number in range(6)]  # of all hubs


def make(wanted: EngineSettings) -> Engine:
    assert wanted.url == "memory://"
    return MemoryEngine(wanted.presence_time, log_memory=wanted.log_memory, shares=wanted.hubs)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[HostHub]:
    """The first."""
    hub = HostHub(str(tmp_path / "hub"), make)
    await hub.start()
    yield hub
    await hub.stop()


@pytest.fixture(params=[1, 3], ids=["one hub", "three hubs"])
async def paths(hub: HostHub, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[list[str]]:
    """Of the sockets of all hubs."""
    paths = [str(tmp_path / "hub"), *(str(tmp_path / f"hub-{number}") for number in range(1, request.param))]
    others = [HostHub(path, make) for path in paths[1:]]
    for other in others:
        await other.start()
    yield paths
    for other in others:
        await other.stop()


@pytest.fixture
def another(paths: list[str]) -> Callable[[], Engine]:
    return lambda: LocalEngine(paths, EngineSettings("memory://", hubs=len(paths)))


@pytest.fixture
def engine(another: Callable[[], Engine]) -> Engine:
    return another()


def links(engine: Engine) -> list[HubLink]:
    """A worker's, to all hubs."""
    assert isinstance(engine, LocalEngine)
    return engine._links


def first_link(engine: Engine) -> HubLink:
    return links(engine)[0]


async def test_without_a_hub_a_worker_does_not_begin(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="no hub at"):
        await LocalEngine([str(tmp_path / "nothing")], EngineSettings("memory://")).start("node", None)  # type: ignore[arg-type]


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
    await eventually(lambda: first_link(one.engine)._connection is None and first_link(two.engine)._connection is None)
    with pytest.raises(EngineUnavailable, match="away"):
        await one.engine.publish("a", b"1", LOGGED)
    assert isinstance(one.engine, LocalEngine)
    away = [one.engine._link(channel) is first_link(one.engine) for channel in CHANNELS]
    outcomes = await one.engine.publish_each([ToPublish(channel, b"1", LOGGED) for channel in CHANNELS])
    assert [isinstance(outcome, EngineUnavailable) for outcome in outcomes] == away
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
    connect = HubLink._connect

    async def counted(self: HubLink) -> None:
        nonlocal attempts
        attempts += 1
        await connect(self)

    monkeypatch.setattr(HubLink, "_connect", counted)
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
    await eventually(lambda: first_link(engine)._connection is None)
    await engine.unsubscribe("a")
    await engine.set_presence("a", "a1", None)
    with pytest.raises(EngineUnavailable):
        await engine.set_presence("a", "a1", ALICE)
    await engine.stop()


async def test_a_request_under_way_when_the_connection_is_cut_fails(
    hub: HostHub, another: Callable[[], Engine]
) -> None:
    engine = another()
    peer = Peer(engine, Delivered())
    await engine.start("one", peer.delivered.receiver)
    asked = asyncio.create_task(engine.publish("a", b"1", LOGGED))
    await asyncio.sleep(0)
    for link in links(engine):
        assert link._connection is not None
        link._connection.close()
    with pytest.raises(EngineUnavailable, match="lost"):
        await asked
    await engine.stop()


@pytest.mark.parametrize("lost", [False, True], ids=["a subscription fails", "it is lost again"])
async def test_a_worker_is_subscribed_to_all_that_it_was_whatever_fails_while_it_comes_back(
    hub: HostHub, peers: tuple[Peer, Peer], lost: bool
) -> None:
    one, two = peers
    channels = [f"channel {number}" for number in range(20)]
    for channel in channels:
        await one.engine.subscribe(channel, KEEP)
    failures = []
    subscribe = hub._handlers[HubSubscribe]

    async def fail_once(engine: Engine, worker: ConnectedWorker, it: HubSubscribe) -> HubReply:
        if not failures:
            failures.append(it.channel)
            if lost:
                worker.connection.close()
            raise EngineUnavailable("the log is away")
        return await subscribe(engine, worker, it)

    hub._handlers[HubSubscribe] = fail_once
    for link in links(one.engine):
        assert link._connection is not None
        link._connection.close()
    await eventually(lambda: len(one.delivered.suspicions) == len(links(one.engine)), 5)
    assert failures
    assert sorted(hub.nodes) == ["one", "two"]
    for channel in channels:
        await two.engine.publish(channel, b"1", LOGGED)
    await one.delivered.count(len(channels))


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
        assert await asyncio.wait_for(loop.sock_recv(stranger, 1), seconds(5)) == b""
    assert (await one.engine.publish("a", b"1", LOGGED)).offset == 1


class SlowEngine(MemoryEngine):
    """go: what it waits for before it does anything that is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.waiting = 0

    async def _gate(self) -> None:
        self.waiting += 1
        await self.go.wait()

    async def subscribe(self, channel: str, keep: History | None) -> Position:
        await self._gate()
        return await super().subscribe(channel, keep)

    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        await self._gate()
        await super().set_presence(channel, client, info)

    async def take_lease(self, name: str, owner: str, ttl: float) -> Lease:
        await self._gate()
        return await super().take_lease(name, owner, ttl)


async def test_what_a_worker_asked_for_as_it_died_is_taken_back_too(tmp_path: Path) -> None:
    slow = SlowEngine()
    hub = HostHub(str(tmp_path / "hub"), lambda wanted: slow)
    await hub.start()
    worker = LocalEngine([str(tmp_path / "hub")], EngineSettings("memory://"))
    await worker.start("one", Receiver(lambda event: None, lambda channel: None, lambda message: None))
    asked = asyncio.gather(
        worker.subscribe("a", KEEP),
        worker.set_presence("a", "a1", ALICE),
        worker.take_lease("x", "one", 60),
        return_exceptions=True,
    )
    await eventually(lambda: slow.waiting == 3)
    await worker.stop()
    await asked
    await eventually(lambda: hub.nodes == [])
    slow.go.set()
    await eventually(lambda: not (hub._subscribers or slow._subscribed or slow._leases or slow._presence))
    await hub.stop()


async def test_what_a_worker_that_died_owned_is_free_at_once(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    first = await one.engine.take_lease("room", "one", 3600)
    await one.engine.stop()

    async def taken() -> bool:
        return (await two.engine.take_lease("room", "two", 60)).fence > first.fence

    await eventually(taken, 5, "the lease")


class Host(NamedTuple):
    """Two hubs, one of which can be stopped and begun again, and a worker of theirs."""

    paths: list[str]
    hubs: list[HostHub]
    engine: LocalEngine
    delivered: Delivered

    async def begin(self, number: int) -> None:
        Path(self.paths[number]).unlink(missing_ok=True)
        self.hubs[number] = HostHub(self.paths[number], make)
        await self.hubs[number].start()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    paths = [str(tmp_path / name) for name in ("first", "second")]
    hubs = [HostHub(path, make) for path in paths]
    host = Host(paths, hubs, LocalEngine(paths, EngineSettings("memory://", hubs=2)), Delivered())
    for hub in host.hubs:
        await hub.start()
    await host.engine.start("one", host.delivered.receiver)
    yield host
    await host.engine.stop()
    for hub in host.hubs:
        await hub.stop()


async def at_the_second(host: Host, channel: str) -> bool:
    """Whether the second hub has its log. It is stopped."""
    try:
        await host.engine.publish(channel, b"0", LOGGED)
    except EngineUnavailable:
        return True
    return False


async def test_without_a_hub_the_channels_of_the_others_go_on_and_its_own_begin_anew_when_it_is_back(
    host: Host,
) -> None:
    channels = [f"c{number}" for number in range(20)]
    for channel in channels:
        await host.engine.subscribe(channel, KEEP)
    await host.hubs[1].stop()
    await eventually(lambda: host.engine._links[1]._connection is None)
    lost = [channel for channel in channels if await at_the_second(host, channel)]
    assert 3 < len(lost) < 17, "the channels are spread over both"
    received = await host.delivered.count(len(channels) - len(lost))
    assert not {event.channel for event in received} & set(lost)
    await host.begin(1)
    await eventually(lambda: host.delivered.suspicions == [""])
    for channel in lost:
        assert (await host.engine.publish(channel, b"1", LOGGED)).offset == 1
    await host.delivered.count(len(channels))


async def test_what_there_is_once_for_all_channels_is_at_the_first_hub(host: Host) -> None:
    """And so is as it was when another ends; what the server keeps for a channel is where the channel is."""
    revoked = await host.engine.publish("\0revocations", b"1", LOGGED)
    lease = await host.engine.take_lease("room", "one", 60)
    await host.hubs[1].stop()
    await eventually(lambda: host.engine._links[1]._connection is None)
    assert (await host.engine.history("\0revocations", KEEP)).position == revoked
    assert not any([await at_the_second(host, f"\0of all {number}") for number in range(10)])
    assert await host.engine.renew_leases("one", {"room": lease.fence}, 60) == {"room"}
    assert await host.engine.neighbours() == ["one"]
    await host.engine.tell("nobody", b"")
    for channel in (f"c{number}" for number in range(20)):
        assert await at_the_second(host, channel) is await at_the_second(host, f"\0kept:{channel}")


async def test_logs_of_several_hubs_hold_no_more_together_than_those_of_one_may() -> None:
    engine = make(EngineSettings("memory://", log_memory=80_000, hubs=2))
    rule = History(1000, 60, bytes=20_000)
    for index in range(200):
        await engine.publish(f"c{index}", b"x" * 1000, LOGGED)
        await engine.publish(f"r{index}", b"x" * 1000, PublishOptions(history=rule))
    assert isinstance(engine, MemoryEngine)
    assert 30_000 < engine._quota.size <= 40_000
    assert 5_000 < engine._pools[rule].size <= 10_000


async def test_a_request_that_a_hub_does_not_answer_fails_and_the_next_one_has_its_own_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freshet.engines.local.link.TICK", 0.01)
    silent = await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, str(tmp_path / "hub"))
    engine = LocalEngine([str(tmp_path / "hub")], EngineSettings("memory://"))
    await engine.start("one", Delivered().receiver)
    asked = [asyncio.create_task(engine.publish("a", b"1", LOGGED))]
    await eventually(lambda: len(engine._links[0]._last_ids) == 5)
    asked.append(asyncio.create_task(engine.publish("a", b"2", LOGGED)))
    with pytest.raises(EngineUnavailable, match="does not reply"):
        await asked[0]
    assert not asked[1].done()
    with pytest.raises(EngineUnavailable, match="does not reply"):
        await asked[1]
    await engine.stop()
    silent.close()


async def test_what_one_turn_brings_is_one_packet_unless_it_is_large(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    packets: list[int] = []
    received = HostHub._received

    def counted(self: HostHub, connection: HubConnection, messages: list[Any]) -> None:
        packets.append(len(messages))
        received(self, connection, messages)

    monkeypatch.setattr(HostHub, "_received", counted)
    await host.hubs[0].stop()
    await host.begin(0)
    await eventually(lambda: host.delivered.suspicions == [""])
    packets.clear()
    small = [host.engine.publish("\0", b"1", PublishOptions()) for _ in range(50)]
    await asyncio.gather(*small)
    assert packets == [50]
    large = [host.engine.publish("\0", bytes(PORTION // 2), PublishOptions(kind=Kind.BYTES)) for _ in range(6)]
    await asyncio.gather(*large)
    assert packets[1:] == [2, 2, 2]
