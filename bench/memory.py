"""What memory a subscriber holds in the server, by transport and dialect; and what a publication in a log does.

A server is started for each, many come to it, and its resident memory is read before and after.

Run: make bench, or python -m bench.memory --help. With --write the table goes to bench/RESULTS.md.
"""

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import uvloop

from bench.arguments import benchmark_parser
from bench.clients import PEERS
from bench.engines import BATCH, NONE, Publisher, batch, connect
from bench.process import KIB, Process, be_the_load, free_port, served
from bench.results import report
from bench.storm import serve
from bench.subscribers import WAYS, Count, Way

AT_ONCE = 50
FIRST = 200  # come before it is measured: what is made once is made for them
CHANNELS = 200  # of 1,000 publications each


async def held(server: Process, way: Way, number: int) -> float:
    """KiB for each of so many clients."""
    count, subscribers = Count(), []

    async def come(several: int) -> None:
        for _ in range(0, several, AT_ONCE):
            made = await asyncio.gather(*(connect(server, count, way, way.subscriber) for _ in range(AT_ONCE)))
            await asyncio.gather(*(subscriber.ready for subscriber in made))
            subscribers.extend(made)
        await asyncio.sleep(1)

    await come(FIRST)
    before = server.memory()
    await come(number)
    after = server.memory()
    for subscriber in subscribers:
        subscriber.transport.abort()
    return (after - before) / number / KIB


async def kept(server: Process) -> float:
    """Bytes for each publication of 128 bytes, in logs that are full."""
    count = Count()
    publisher = await connect(server, count, NONE, Publisher)
    publisher.goes_on = False

    async def fill(first: int, last: int) -> None:
        for number in range(first, last):
            request = batch([f"c{number}"])
            for _ in range(1000 // BATCH):
                count.expect(1)
                publisher.begin(request)
                await count.done.wait()

    await fill(0, 20)
    before = server.memory()
    await fill(20, 20 + CHANNELS)
    return (server.memory() - before) / (CHANNELS * 1000)


def measure(options: argparse.Namespace, folder: Path) -> list[str]:
    lines = ["| clients | KiB each |", "|---|---|"]
    begun = 0
    for way in WAYS:
        with ExitStack() as stack:
            port = free_port()
            command = [sys.executable, "-m", "freshet", "serve", "freshet_app:live", "--port", str(port)]
            server = stack.enter_context(served(command, port, cwd=PEERS))
            begun = server.memory()
            lines.append(f"| {way.name} | {uvloop.run(held(server, way, options.clients)):.1f} |")
            print(lines[-1], file=sys.stderr)
    with ExitStack() as stack:
        entry = uvloop.run(kept(serve(stack, folder, free_port(), 0)))
    return [
        *lines,
        "",
        f"- a server before anybody comes: {begun / KIB / KIB:.0f} MiB",
        f"- a publication of 128 bytes in a log: {entry:.0f} bytes",
    ]


def main() -> None:
    options = benchmark_parser(__doc__, clients=5000).parse_args()
    be_the_load()
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            f"## Memory: {options.clients:,} clients that are subscribed to one channel, by transport and dialect",
            "",
            "Resident memory of the server's process; the kernel's buffers are not in it.",
            "",
            *measure(options, Path(folder)),
        ]
    report("memory", lines, options)


if __name__ == "__main__":
    main()
