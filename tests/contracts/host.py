"""What Freshet does under every ASGI server, for every official client, or what a page of the documentation says.

A test module gives the fixture `host`, of its module, and imports all of this. The server is started, left alone for
three heartbeats, asked to send a burst, ended with all of its clients connected, and started again.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from freshet.websocket.handshake import client_request
from tests.hosts.hosts import AsgiHost
from tests.hosts.listeners import CLIENTS, Heard, Place, listening
from tests.tools.patience import eventually, seconds
from tests.tools.ports import HOST, free_port
from tests.tools.redis import redis
from tests.tools.serving import Server
from tests.transports.shells import shell

pytestmark = pytest.mark.timeout(120)

APP = "tests.hosts.application:live"
CHANNEL = "log:all"
BURST, MISSED, LIVE = 200, 5, 5
ENDS = 3.0  # seconds, scaled: far more than it takes, and far less than a stream lasts


class Snapshot(NamedTuple):
    data: list[Any]
    there: int
    lost: int
    errors: list[str]
    why: list[str]


class Report(NamedTuple):
    """What each client had at the end of each phase, how long the server took to end, and whether it missed one."""

    quiet: dict[str, Snapshot]
    burst: dict[str, Snapshot]
    returned: dict[str, Snapshot]
    took: float
    noticed: bool
    log: str


@pytest.fixture(scope="module")
def report(host: AsgiHost, node: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("host")
    with redis() as broker, shell("freshet", APP, folder, env={"TEST_ENGINE": broker.url}) as publisher:
        return asyncio.run(_Course(host, folder, broker.url, publisher).run())


class _Course:
    """publisher: another server on the same broker, which stays."""

    def __init__(self, host: AsgiHost, folder: Path, engine: str, publisher: Server) -> None:
        self._host = host
        self._folder = folder
        self._engine = engine
        self._publisher = publisher
        self._published = 0
        self._port = free_port()

    async def run(self) -> Report:
        with ExitStack() as stack:
            server = stack.enter_context(self._serving())
            mute = stack.enter_context(_mute_websocket(server, "log:mute"))
            async with listening(Place(f"http://{HOST}:{self._port}", CHANNEL)) as heard:
                await self._within(15, lambda: all(each.there for each in heard.values()))
                await self._three_heartbeats()
                noticed = await self._is_noticed(mute)
                quiet = _snapshots(heard)
                await self._publish(BURST)
                await self._within(10, lambda: self._all_have(heard))
                burst = _snapshots(heard)
                took = await self._end(server)
                log = server.log()
                await self._publish(MISSED)
                stack.enter_context(self._serving())
                await self._within(15, lambda: self._all_have(heard))
                await self._publish(LIVE)
                await self._within(10, lambda: self._all_have(heard))
                return Report(quiet, burst, _snapshots(heard), took, noticed, log)

    @contextmanager
    def _serving(self) -> Iterator[Server]:
        more, env = self._host.options.split(), {"TEST_ENGINE": self._engine}
        with shell(self._host.name, APP, self._folder, *more, port=self._port, env=env) as server:
            yield server

    def _all_have(self, heard: dict[str, Heard]) -> bool:
        return all(len(each.data) >= self._published for each in heard.values())

    @staticmethod
    async def _within(time_limit: float, condition: Any) -> None:
        """Go on then in any case: what is missing, the tests say, client by client."""
        try:
            await eventually(condition, time_limit)
        except TimeoutError:
            return

    async def _three_heartbeats(self) -> None:
        """Of a stream that begins now: everybody else had three in the meantime, or the first is long overdue."""
        beats, url = 0, f"http://{HOST}:{self._port}/channels/log:witness"
        async with (
            httpx.AsyncClient(timeout=seconds(10)) as http,
            http.stream("GET", url, headers={"Accept": "text/event-stream"}) as answer,
        ):
            async for line in answer.aiter_lines():
                beats += line == ":"
                if beats == 3:
                    return
        raise AssertionError("the witness's own stream ended")

    async def _is_noticed(self, mute: str) -> bool:
        """Whether a client that does not answer is found out; where it is not, after three heartbeats."""

        async def gone() -> bool:
            answer = await http.post(self._publisher.http("/api/presence_stats"), json={"channel": mute})
            return bool(answer.json()["result"]["num_clients"] == 0)

        async with httpx.AsyncClient(timeout=seconds(10)) as http:
            if self._host.notices:
                await self._within(10, gone)
            return await gone()

    async def _publish(self, count: int) -> None:
        async with httpx.AsyncClient(base_url=self._publisher.http(""), timeout=seconds(10)) as http:
            for number in range(self._published, self._published + count):
                (await http.post(f"/channels/{CHANNEL}", json=number)).raise_for_status()
        self._published += count

    async def _end(self, server: Server) -> float:
        """SIGTERM; how many seconds until nothing of the server is left."""
        began = time.monotonic()
        server.process.terminate()
        await self._within(3 * ENDS, lambda: server.process.poll() is not None and not _group_runs(server))
        took = time.monotonic() - began
        server.kill()
        if _group_runs(server):
            os.killpg(server.pid, signal.SIGKILL)
        return took


def _group_runs(server: Server) -> bool:
    """Whether a worker of it does. Our own server is alone."""
    try:
        os.killpg(server.pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def _mute_websocket(server: Server, channel: str) -> Iterator[str]:
    """A client that is accepted, and from then on neither reads nor answers, as one that is gone."""
    with socket.create_connection((HOST, server.port), seconds(10)) as plain:
        plain.sendall(client_request(f"{HOST}:{server.port}", f"/channels/{channel}")[0])
        assert b" 101 " in plain.recv(64)
        yield channel


def _snapshots(heard: dict[str, Heard]) -> dict[str, Snapshot]:
    return {
        name: Snapshot(list(it.data), it.there, it.lost, list(it.errors), list(it.why)) for name, it in heard.items()
    }


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_connects_and_stays_while_nothing_happens(report: Report, client: str) -> None:
    quiet = report.quiet[client]
    assert (quiet.data, quiet.lost, quiet.errors) == ([], 0, []), (quiet.why, report.log)
    assert quiet.there > 0


@pytest.mark.parametrize("client", CLIENTS)
def test_a_burst_arrives_in_order(report: Report, client: str) -> None:
    assert report.burst[client].data == list(range(BURST))


@pytest.mark.parametrize("client", CLIENTS)
def test_after_a_restart_a_client_comes_back_and_has_missed_nothing(report: Report, client: str) -> None:
    returned = report.returned[client]
    assert returned.data == list(range(BURST + MISSED + LIVE))
    assert (returned.errors, returned.there > report.burst[client].there) == ([], True)


def test_the_server_ends_at_sigterm_though_streams_and_polls_are_open(report: Report, host: AsgiHost) -> None:
    assert (report.took < seconds(ENDS)) is host.ends, (report.took, report.log)


def test_who_is_gone_from_a_quiet_websocket_is_found_out(report: Report, host: AsgiHost) -> None:
    assert report.noticed is host.notices, report.log
