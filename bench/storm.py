"""Ten thousand clients that come back at once, and a node that drains: how fast, and who notices.

A storm: all clients but a hundred lose their connection at the same moment, and reconnect and recover as fast as they
are let in; who is turned away (503) waits as long as the server says, and a random second. Meanwhile publications go
on, and those who stayed measure how late they are. A drain: one of two nodes on a Redis gets SIGTERM and moves its
clients.

The server has one core, clients, publisher and Redis the other. Clients speak the Centrifuge protocol on bare sockets.

Run: python -m bench.storm --help. With --write the table goes to bench/RESULTS.md.
"""

import argparse
import asyncio
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import httpx
import uvloop

from bench.arguments import benchmark_parser
from bench.process import Process, be_the_load, free_port, served
from bench.results import report
from bench.subscribers import BEGIN, UPGRADE, framed

STAYED = 100
CHANNELS = 20
CLOSE = 0x88  # the first byte of a WebSocket's last frame
CONFIG = """
[tokens]
anonymous = true
[api]
anonymous = true
[timing]
drain = {drain}
[limits]
connects_per_second = {rate}
connects_burst = {burst}
[[channels]]
match = "*"
history = {{ size = 1000, ttl = 600 }}
"""
HEAD = BEGIN % (b"/connection/websocket", UPGRADE % b"")
_epoch = re.compile(rb'"epoch":"([^"]+)"').search
_asked = re.compile(rb'"asked":([0-9.]+)').findall
_offset = re.compile(rb'"offset":(\d+)').findall
_wait = re.compile(rb"retry-after: (\d+)", re.IGNORECASE).search


class Crowd:
    """All clients, and what they saw. back: when each came in. late: seconds of publications to those who stayed."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.back: list[float] = []
        self.late: list[float] = []
        self.turned_away = 0
        self.unrecovered = 0
        self.clients: list[Client] = []
        self._due = 0
        self._done = asyncio.Event()

    def expect(self, number: int) -> None:
        """From now on."""
        self.back.clear()
        self._due = number
        self._done.clear()

    def came(self) -> None:
        self.back.append(time.monotonic())
        if len(self.back) == self._due:
            self._done.set()

    async def all_in(self) -> None:
        """So many as are expected."""
        async with asyncio.timeout(120):
            await self._done.wait()

    async def come(self, number: int) -> None:
        """So many hundreds more."""
        for _ in range(0, number, 100):
            self.expect(100)
            for index in range(100):
                quiet = len(self.clients) >= STAYED
                self.clients.append(Client(self, f"c{index % CHANNELS}".encode(), is_quiet=quiet))
                self.clients[-1].open()
            await self.all_in()


class Client(asyncio.Protocol):
    def __init__(self, crowd: Crowd, channel: bytes, *, is_quiet: bool) -> None:
        self.is_in = False
        self.transport: asyncio.Transport | None = None
        self._crowd = crowd
        self._channel = channel
        self._is_quiet = is_quiet
        self._epoch = self._last = b""
        self._came = b""
        self._tries = 0

    def open(self) -> None:
        self._wait = 0.0
        asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        port = self._crowd.ports[self._tries % len(self._crowd.ports)]
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", port)
        except OSError:
            self._again()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._came = b""
        self.transport.write(HEAD)

    def data_received(self, data: bytes) -> None:
        if self.is_in:
            self._received(data)
            return
        self._came += data
        if self._came.startswith(b"HTTP/1.1 101") and b"\r\n\r\n" in self._came and b'"id"' not in self._came:
            place = b',"recover":true,"epoch":"%b","offset":%b' % (self._epoch, self._last) if self._last else b""
            self.transport.write(  # type: ignore[union-attr]
                framed(b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"%b"%b}}' % (self._channel, place))
            )
        elif self._came.startswith(b"HTTP/1.1 503") and (wait := _wait(self._came)):
            self._crowd.turned_away += 1
            self._wait = float(wait[1]) + random.random()
            self.transport.close()  # type: ignore[union-attr]
        elif b'"id":2' in self._came:
            self._subscribed(self._came)

    def _subscribed(self, came: bytes) -> None:
        self.is_in = True
        self._crowd.came()
        self._crowd.unrecovered += bool(self._last) and b'"recovered":true' not in came
        self._epoch = _epoch(came)[1]  # type: ignore[index]
        self._last = (_offset(came) or [b"0"])[-1]

    def _received(self, data: bytes) -> None:
        if offsets := _offset(data):
            self._last = offsets[-1]
            if not self._is_quiet:
                now = time.monotonic()
                self._crowd.late += [now - float(asked) for asked in _asked(data)]
        if data[0] == CLOSE:
            self.transport.close()  # type: ignore[union-attr]
        elif data.endswith(b"\x02{}"):  # a heartbeat, and nothing behind it
            self.transport.write(framed(b"{}"))  # type: ignore[union-attr]

    def connection_lost(self, _: Exception | None) -> None:
        self.is_in = False
        self._tries += 1
        self._again()

    def _again(self) -> None:
        asyncio.get_running_loop().call_later(self._wait or random.random() * 0.5, self.open)


async def publish(port: int, rate: float) -> None:
    """Until it is cancelled. To each channel in turn."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        number = 0
        while True:
            data = {"channel": f"c{number % CHANNELS}", "data": {"asked": time.monotonic()}}
            (await http.post("/api/publish", json=data)).raise_for_status()
            number += 1
            await asyncio.sleep(1 / rate)


def at(times: list[float], part: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * part))] if times else float("nan")


async def storm(server: Process, options: argparse.Namespace) -> list[tuple[float, ...]]:
    """Of each round: back/s, seconds to 50, 95, 100 %, CPU, turned away, late before and meanwhile, unrecovered."""
    crowd = Crowd([server.port])
    await crowd.come(options.clients)
    publisher = asyncio.create_task(publish(server.port, options.rate))
    rounds = []
    for _ in range(options.rounds):
        await asyncio.sleep(1)
        crowd.late.clear()
        await asyncio.sleep(3)
        before = at(crowd.late, 0.99)
        crowd.late.clear()
        crowd.turned_away = 0
        gone = crowd.clients[STAYED:]
        crowd.expect(len(gone))
        cpu, began = server.cpu(), time.monotonic()
        for client in gone:
            client.transport.abort()  # type: ignore[union-attr]
        await crowd.all_in()
        used = server.cpu().since(cpu)
        back = [each - began for each in crowd.back]
        each = (used.user + used.system) / len(gone) * 1e6
        places = (at(back, 0.5), at(back, 0.95), max(back))
        late = (before * 1000, at(crowd.late, 0.5) * 1000, at(crowd.late, 0.99) * 1000)
        rounds.append((len(gone) / max(back), *places, each, crowd.turned_away, *late, crowd.unrecovered))
        print(rounds[-1], file=sys.stderr)
    publisher.cancel()
    crowd.ports.clear()
    return rounds


async def drain(servers: list[Process], pid: int, options: argparse.Namespace) -> tuple[float, ...]:
    """Moved in a second: on average, at most; seconds to the last; late meanwhile; unrecovered."""
    crowd = Crowd([server.port for server in servers])
    for client_port in (servers[1].port, servers[0].port):  # those who stay first
        crowd.ports = [client_port]
        await crowd.come(STAYED if client_port == servers[1].port else options.clients // 2)
    crowd.ports = [servers[1].port]
    publisher = asyncio.create_task(publish(servers[1].port, options.rate))
    await asyncio.sleep(2)
    crowd.expect(options.clients // 2)
    crowd.late.clear()
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    await crowd.all_in()
    publisher.cancel()
    back = [each - began for each in crowd.back]
    seconds = Counter(int(each) for each in back)
    full = [seconds[second] for second in range(int(max(back)))] or [len(back)]
    late = (at(crowd.late, 0.5) * 1000, at(crowd.late, 0.99) * 1000)
    return (sum(full) / len(full), max(full), max(back), *late, crowd.unrecovered)


def serve(
    stack: ExitStack,
    folder: Path,
    port: int,
    core: int,
    engine: str = "memory://",
    arguments: Sequence[str] = (),
    **limits: float,
) -> Process:
    config = folder / f"{port}.toml"
    config.write_text(CONFIG.format(**{"drain": 10, "rate": 2000, "burst": 1000, **limits}))
    command = [sys.executable, "-m", "freshet", "serve", "--config", str(config), "--port", str(port), *arguments]
    return stack.enter_context(served(command, port, core=core, env={"FRESHET_ENGINE": engine}))


def storms(options: argparse.Namespace, folder: Path) -> list[str]:
    columns = "let in | back/s | 50/95/100 % | CPU us each | turned away | late before: p99 | p50 | p99 | worst p99"
    lines = [f"| {columns} | not recovered |", "|---|---|---|---|---|---|---|---|---|---|"]
    for name, limits in (
        ("without a limit", {"rate": 0}),
        ("5,000, then 2,000/s", {"burst": 5000}),
        ("1,000, then 2,000/s (the default)", {}),
        ("500, then 1,000/s", {"rate": 1000, "burst": 500}),
    ):
        with ExitStack() as stack:
            server = serve(stack, folder, free_port(), 0, **limits)
            rounds = uvloop.run(storm(server, options))
        rate, half, most, all_, cpu, away, before, p50, p99, lost = (median(each) for each in zip(*rounds, strict=True))
        lines.append(
            f"| {name} | {rate:,.0f} | {half:.1f} / {most:.1f} / {all_:.1f} s | {cpu:.0f} | {away:,.0f} | "
            f"{before:.1f} ms | {p50:.1f} ms | {p99:.1f} ms | {max(each[8] for each in rounds):.1f} ms | {lost:.0f} |"
        )
    return lines


def drains(options: argparse.Namespace, folder: Path) -> list[str]:
    lines = [
        "| window | moved/s: on average | at most | the last after | late: p50 | p99 | not recovered |",
        "|---|---|---|---|---|---|---|",
    ]
    for window in (3, 10):
        with ExitStack() as stack:
            port = free_port()
            command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)]
            stack.enter_context(served(command, port, core=1))
            servers = [
                serve(stack, folder, free_port(), core, f"redis://127.0.0.1:{port}", drain=window) for core in (0, 0)
            ]
            got = uvloop.run(drain(servers, servers[0].pid, options))
        mean, most, last, p50, p99, lost = got
        lines.append(
            f"| {window} s | {mean:,.0f} | {most:,.0f} | {last:.1f} s | {p50:.1f} ms | {p99:.1f} ms | {lost:.0f} |"
        )
    return lines


def main() -> None:
    options = benchmark_parser(__doc__, clients=10_000, rate=200, rounds=5).parse_args()
    be_the_load()
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            f"## All come back at once: {options.clients:,} clients in {CHANNELS} channels",
            "",
            f"All but {STAYED} lose their connection, and recover; medians of {options.rounds} rounds.",
            f"Meanwhile {options.rate:g} publications a second reach those who stayed, *late* by so much.",
            "",
            *storms(options, Path(folder)),
            "",
            f"## A node drains: {options.clients // 2:,} clients move to another, on one Redis",
            "",
            "A node moves at least 500 clients a second, so that a longer window would change nothing here.",
            "",
            *drains(options, Path(folder)),
        ]
    report("storm", lines, options)


if __name__ == "__main__":
    main()
