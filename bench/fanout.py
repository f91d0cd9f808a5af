"""Fan-out, measured: server CPU per delivery, latency, connects, idle memory, beside a C loop of `send()`.

The server has one core, the load (load.c) another. Rounds of the two servers are interleaved, and medians are shown: a
machine's noise then falls on both. CPU is what the kernel accounts to the server's process, user and system apart.

Run: make bench, or python -m bench.fanout --help; `--rate 0` leaves the row of the latency out. With --write the table
goes to bench/RESULTS.md.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.arguments import benchmark_parser, numbers
from bench.process import KIB, Process, free_port, served
from bench.results import write
from freshet.config import load as load_config
from freshet.policy.tokens import issue

HERE = Path(__file__).parent
TOKENS = 19_001
MICROSECONDS = 1e6


class Cost(NamedTuple):
    """Microseconds of server CPU per delivery; milliseconds of latency."""

    user: float
    total: float
    p50: float
    p99: float


class Bed:
    """One server and the load on it."""

    def __init__(self, server: Process, load: subprocess.Popen[str]) -> None:
        self.server = server
        self._load = load

    def do(self, command: str) -> dict[str, Any]:
        """One command of load.c, and its answer."""
        assert self._load.stdin is not None
        assert self._load.stdout is not None
        self._load.stdin.write(command + "\n")
        self._load.stdin.flush()
        answer = self._load.stdout.readline()
        if not answer:
            raise RuntimeError(f"the load ended during {command!r}")
        return json.loads(answer)

    def round(self, command: str) -> Cost:
        before = self.server.cpu()
        answer = self.do(command)
        cost = self.server.cpu().since(before)
        per = MICROSECONDS / max(1, answer["deliveries"])
        return Cost(cost.user * per, (cost.user + cost.system) * per, answer["p50_ms"], answer["p99_ms"])


@contextmanager
def bed(
    name: str, work: Path, *, config: Path = HERE / "freshet.toml", env: Mapping[str, str] | None = None
) -> Iterator[Bed]:
    """Start a server and its load; end both, by their ids. env: added to the server's."""
    port = free_port()
    if name == "limit":
        command = [str(work / "limit"), str(port)]
    else:
        command = [sys.executable, "-m", "freshet", "serve", "--config", str(config), "--port", str(port)]
    with served(command, port, env=env) as server:
        load = subprocess.Popen(
            ["taskset", "-c", "1", str(work / "load"), str(port), str(work / "tokens")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield Bed(server, load)
        finally:
            load.kill()
            load.wait()


def build(work: Path) -> None:
    for name in ("limit", "load"):
        subprocess.run(["cc", "-O2", "-o", str(work / name), str(HERE / f"{name}.c")], check=True)
    secret = load_config(HERE / "freshet.toml", {}).tokens.secret
    assert secret is not None
    tokens = [issue(secret, f"user{index}", expires_in=3600) for index in range(TOKENS)]
    (work / "tokens").write_text("\n".join(tokens) + "\n")


# ---------------------------------------------------------------------------------------------------------- measuring


def fan_out(options: argparse.Namespace, work: Path) -> list[str]:
    """CPU per delivery, interleaved with the limit."""
    lines = [
        "| in flight | server | user us | whole us | of the limit | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|---|",
    ]
    with bed("limit", work) as limit, bed("freshet", work) as freshet:
        for each in (limit, freshet):
            each.do(f"connect {options.subscribers}")
        for window in options.windows:
            command = f"closed {window} {options.payload} {options.seconds}"
            rounds = [(limit.round(command), freshet.round(command)) for _ in range(options.rounds)]
            ratio = median(ours.total / theirs.total for theirs, ours in rounds)
            for index, name in enumerate(("C loop of send()", "Freshet")):
                user, total, p50, p99 = (median(each) for each in zip(*(pair[index] for pair in rounds), strict=True))
                share = f"{ratio:.2f}" if index else "1"
                lines.append(f"| {window} | {name} | {user:.3f} | {total:.2f} | {share} | {p50:.2f} | {p99:.2f} |")
        if options.rate:
            command = f"open {options.rate} {options.payload} {options.seconds}"
            rounds_open = [freshet.round(command) for _ in range(options.rounds)]
            user, total, p50, p99 = (median(each) for each in zip(*rounds_open, strict=True))
            name = f"Freshet at {options.rate:g} publications/s"
            lines.append(f"| - | {name} | {user:.3f} | {total:.2f} | - | {p50:.2f} | {p99:.2f} |")
    return lines


def clients(options: argparse.Namespace, work: Path) -> list[str]:
    """Connects with a token and a subscription, and what an idle client holds."""
    with bed("freshet", work) as freshet:
        freshet.do("connect 1000")
        time.sleep(1)
        memory, cpu = freshet.server.memory(), freshet.server.cpu()
        answer = freshet.do(f"connect {options.idle}")
        used = freshet.server.cpu().since(cpu)
        more = options.idle - 1000
        cost = (used.user + used.system) / more * MICROSECONDS
        time.sleep(1)
        held = (freshet.server.memory() - memory) / more
    return [
        f"- authenticated connect + subscribe: {cost:.0f} us CPU, {more / answer['seconds']:.0f}/s, 32 at a time",
        f"- idle client with one subscription: {held / KIB:.2f} KiB RSS ({options.idle:,} clients)",
    ]


def scale(options: argparse.Namespace, work: Path) -> list[str]:
    """What a delivery costs as subscribers become more, beside what it costs the machine itself."""
    lines = [
        "| subscribers | C loop: user us | whole us | Freshet: user us | whole us | of the limit |",
        "|---|---|---|---|---|---|",
    ]
    command = f"closed 1 {options.payload} {options.seconds}"
    with bed("limit", work) as limit, bed("freshet", work) as freshet:
        for count in options.scale:
            for each in (limit, freshet):
                each.do(f"connect {count}")
            rounds = [(limit.round(command), freshet.round(command)) for _ in range(options.rounds)]
            ratio = median(ours.total / theirs.total for theirs, ours in rounds)
            theirs, ours = ([median(each) for each in zip(*side, strict=True)] for side in zip(*rounds, strict=True))
            cells = f"{theirs[0]:.3f} | {theirs[1]:.2f} | {ours[0]:.3f} | {ours[1]:.2f} | {ratio:.2f}"
            lines.append(f"| {count:,} | {cells} |")
    return [
        *lines,
        "",
        "With few subscribers the publication itself is nearly all: what comes in, its checks, its answer.",
    ]


def main() -> None:
    parser = benchmark_parser(__doc__, subscribers=1000, payload=128, windows=[1, 8], rate=100, seconds=3, rounds=5)
    parser.add_argument("--idle", type=int, default=10_000, help="clients of the memory row; 0: none")
    parser.add_argument(
        "--scale", type=numbers, default=[1, 10, 100, 1000, 5000, 15000], help="subscribers; empty: none"
    )
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        build(work)
        title = f"## {options.subscribers:,} subscribers, {options.payload} bytes, {options.rounds} interleaved rounds"
        lines = [title, "", *fan_out(options, work)]
        if options.idle:
            lines += ["", "## Clients", "", *clients(options, work)]
        if options.scale:
            lines += ["", "## One publication in flight, by subscribers", "", *scale(options, work)]
    print("\n".join(lines))
    if options.write:
        write("fanout", lines)


if __name__ == "__main__":
    main()
