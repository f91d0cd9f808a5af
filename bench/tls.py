"""TLS, measured: server CPU per delivery, per connection, and memory of an idle client, beside the same in the clear.

Both servers are Freshet with the same options, on one core; the clients are on the other. Rounds are interleaved, and
medians are shown. CPU is what the kernel accounts to the server's process.

Run: python -m bench.tls --help. With --write the table goes to bench/RESULTS.md.
"""

import asyncio
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import httpx

from bench.arguments import benchmark_parser
from bench.process import KIB, Process, be_the_load, free_port, served
from bench.results import write
from bench.subscribers import Count

MICROSECONDS = 1e6
AT_ONCE = 32  # connections that are opened
CONFIG = """
tokens.anonymous = true
limits.connects_per_second = 0
timing.ping_interval = 3600
[[channels]]
match = "*"
"""
REQUEST = (
    b"GET /channels/news HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Subscriber(asyncio.Protocol):
    """Counts the bytes that come behind the handshake."""

    def __init__(self, count: Count) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count = count

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            self._count.add(len(data))
        else:
            assert data.startswith(b"HTTP/1.1 101 "), data
            self.opened.set_result(None)


class Costs(NamedTuple):
    """Microseconds of server CPU; KiB."""

    connect: float
    memory: float
    delivery: list[float]


class Bed:
    """A server, and who is subscribed to it."""

    def __init__(self, server: Process, internal: int, trust: ssl.SSLContext | None) -> None:
        self._server = server
        self._trust = trust
        self._count = Count()
        self._subscribers: list[Subscriber] = []
        self._http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{internal}", headers={"X-API-Key": "key"})

    async def connect(self, count: int) -> tuple[float, float]:
        """Microseconds of CPU and KiB for each."""
        await self._connect(AT_ONCE)  # what is made once
        cpu, memory = self._server.cpu(), self._server.memory()
        await self._connect(count)
        used = self._server.cpu().since(cpu)
        await asyncio.sleep(1)
        held = (self._server.memory() - memory) / count / KIB
        return (used.user + used.system) / count * MICROSECONDS, held

    async def _connect(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        for first in range(0, count, AT_ONCE):
            opening = [
                loop.create_connection(
                    partial(Subscriber, self._count),
                    "127.0.0.1",
                    self._server.port,
                    ssl=self._trust,
                    server_hostname="localhost" if self._trust else None,
                )
                for _ in range(min(AT_ONCE, count - first))
            ]
            made = [protocol for _, protocol in await asyncio.gather(*opening)]
            await asyncio.gather(*(each.opened for each in made))
            self._subscribers += made

    async def deliver(self, publications: int, payload: int) -> float:
        """Microseconds of CPU per delivery, one publication after the other."""
        before = self._server.cpu()
        request = {"channel": "news", "data": "x" * payload}
        for _ in range(publications):
            self._count.expect(len(self._subscribers) * (payload + 4))  # two quotes, a head of two
            (await self._http.post("/api/publish", json=request)).raise_for_status()
            await self._count.done.wait()
        used = self._server.cpu().since(before)
        return (used.user + used.system) * MICROSECONDS / publications / len(self._subscribers)

    async def close(self) -> None:
        for each in self._subscribers:
            each.transport.abort()
        await self._http.aclose()


@asynccontextmanager
async def bed(folder: Path, secure: bool) -> AsyncIterator[Bed]:
    port, internal = free_port(), free_port()
    command = [sys.executable, "-m", "freshet", "serve", "--config", "freshet.toml", "--port", str(port)]
    command += ["--tls-cert", "cert.pem", "--tls-key", "key.pem"] if secure else []
    env = {"FRESHET_API_KEY": "key", "FRESHET_INTERNAL__PORT": str(internal)}
    with served(command, port, cwd=folder, env=env) as server:
        made = Bed(server, internal, ssl.create_default_context(cafile=str(folder / "ca.pem")) if secure else None)
        try:
            yield made
        finally:
            await made.close()


async def measure(folder: Path, subscribers: int, payload: int, publications: int, rounds: int) -> list[Costs]:
    """In the clear, and over TLS."""
    async with bed(folder, secure=False) as plain, bed(folder, secure=True) as secure:
        both = (plain, secure)
        connects = [await each.connect(subscribers) for each in both]
        deliveries = [[await each.deliver(publications, payload) for each in both] for _ in range(rounds)]
        return [Costs(cpu, held, [pair[index] for pair in deliveries]) for index, (cpu, held) in enumerate(connects)]


def main() -> None:
    parser = benchmark_parser(__doc__, subscribers=1000, payload=100, rounds=5)
    parser.add_argument("--publications", type=int, default=200, help="of a round")
    options = parser.parse_args()
    be_the_load()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "freshet.toml").write_text(CONFIG)
        subprocess.run([sys.executable, "-m", "freshet", "cert"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        began = time.monotonic()
        sizes = (options.subscribers, options.payload, options.publications, options.rounds)
        costs = asyncio.run(measure(folder, *sizes))
    lines = [
        f"## TLS: {options.subscribers:,} subscribers, {options.payload} bytes, {options.rounds} interleaved rounds",
        "",
        "| | a delivery, us CPU | a connection, us CPU | idle client, KiB RSS |",
        "|---|---|---|---|",
    ]
    for title, cost in zip(("in the clear", "TLS 1.3, AES-GCM"), costs, strict=True):
        lines.append(f"| {title} | {median(cost.delivery):.2f} | {cost.connect:.0f} | {cost.memory:.1f} |")
    print("\n".join(lines), f"\n({time.monotonic() - began:.0f} s)")
    if options.write:
        write("tls", lines)


if __name__ == "__main__":
    main()
