"""Honest clients while others attack: how late what they get becomes, what is lost, and what the server's memory is.

Each attack of `bench.attackers` runs by itself, between two measurements without one, against one server with the
limits and rates that a server has when nobody has set any. The server has one core, the honest clients (load.c) and the
attackers the other, the attackers with the lowest priority. The first row is of no attack: its process is as busy as
theirs, and asks for nothing.

Run: make attack, or python -m bench.attack --help. With --write the table goes to bench/RESULTS.md.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.arguments import benchmark_parser
from bench.attackers import ATTACKS
from bench.beds import HERE, Bed, bed, build, raise_open_files
from bench.process import KIB, Process
from bench.results import write
from freshet.config import load as load_config

CONFIG = HERE / "attack.toml"
MIB = KIB * KIB
GRACE = 2.0  # seconds from the beginning of an attack to the measurement, and from its end to the next
LONGER = 120.0  # seconds after which an attack ends by itself, whatever becomes of this process


class Measured(NamedTuple):
    """late: p99 in milliseconds. cpu: the server's share of its core. lost: deliveries. memory: the most bytes."""

    late: float
    cpu: float
    lost: int
    memory: int


class Watch(threading.Thread):
    """The most memory that a process has."""

    def __init__(self, server: Process) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._over = threading.Event()
        self.most = 0

    def run(self) -> None:
        while not self._over.wait(0.1):
            self.most = max(self.most, self._server.memory())

    def end(self) -> int:
        self._over.set()
        self.join()
        return self.most


def measure(it: Bed, options: argparse.Namespace) -> Measured:
    watch = Watch(it.server)
    watch.start()
    before = it.server.cpu()
    answer: dict[str, Any] = it.do(f"open {options.rate} {options.payload} {options.seconds}")
    used = it.server.cpu().since(before)
    lost = answer["published"] * options.clients - answer["deliveries"]
    return Measured(answer["p99_ms"], (used.user + used.system) / answer["seconds"], lost, watch.end())


@contextmanager
def attacked(name: str, port: int, secret: str) -> Iterator[None]:
    """Let one attack loose until the block ends."""
    command = [sys.executable, "-m", "bench.attackers", name, str(port), str(LONGER), secret]
    attacker = subprocess.Popen(command, preexec_fn=lambda: os.nice(19) and None)  # noqa: PLW1509 - no thread yet
    try:
        time.sleep(GRACE)
        yield
        if attacker.poll() is not None:
            raise RuntimeError("the attacker ended early")
    finally:
        attacker.kill()
        attacker.wait()


def rows(options: argparse.Namespace, work: Path) -> Iterator[str]:
    secret = load_config(CONFIG, {}).tokens.secret
    assert secret is not None
    for name in ATTACKS:
        if options.only not in name:
            continue
        with bed("freshet", work, config=CONFIG) as it:
            it.do(f"connect {options.clients}")
            time.sleep(GRACE)
            quiet = [measure(it, options)]
            try:
                with attacked(name, it.server.port, secret):
                    under = measure(it, options)
                time.sleep(GRACE)
                quiet.append(measure(it, options))
            except RuntimeError as why:
                yield f"| {name} | {quiet[0].late:.1f} | - | honest clients were cut ({why}) | - | - | - |"
                continue
            before, late = median(each.late for each in quiet), under.late
            memory = f"{quiet[0].memory / MIB:.0f} | {max(under.memory, quiet[1].memory) / MIB:.0f}"
            yield f"| {name} | {before:.1f} | {late:.1f} | {under.lost} | {under.cpu:.0%} | {memory} |"


def main() -> None:
    parser = benchmark_parser(__doc__, clients=2000, rate=20, payload=128, seconds=8)
    parser.add_argument("--only", default="", help="attacks with this in their name")
    options = parser.parse_args()
    raise_open_files()
    lines = [
        f"## {options.clients:,} honest clients, {options.rate:g} publications/s to each, while others attack",
        "",
        "| attack | p99 ms without | p99 ms | lost | CPU | RSS MiB without | at most |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        for row in rows(options, Path(folder)):
            print(row, flush=True)
            lines.append(row)
    if options.write:
        write("attack", lines)


if __name__ == "__main__":
    main()
