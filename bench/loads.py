"""What `freshet bench` says of `freshet serve`: chat, echo, rpc, storms of connects and recoveries, streams and polls.

The server has one core, the load another. Every row is a load of `freshet bench`, in rounds, with a server of its own;
medians of the rounds are shown, and the sum of what was lost. CPU is what the kernel accounts to the server's process.

Run: make bench, or python -m bench.loads --help. With --write the table goes to bench/RESULTS.md.
"""

import argparse
import asyncio
import sys
from statistics import median
from typing import Any, NamedTuple

from bench.arguments import benchmark_parser
from bench.beds import HERE, MICROSECONDS
from bench.process import be_the_load, free_port, served
from bench.results import report
from freshet import Freshet, History, Session
from freshet.config import parse
from freshet.load.conductor import Measured, conduct, shares
from freshet.load.loads import LOADS
from freshet.load.plan import Plan
from freshet.load.report import lost, percentile
from freshet.policy.tokens import issue

WORKER = "freshet.cli.bench_worker"
SECRET = "a secret of the benchmark, thirty-two bytes"
KEPT = History(size=1000, ttl=300)
ENDLESS = {"rate": 1_000_000_000, "burst": 1_000_000_000}


def application() -> Freshet:
    """What is served: `freshet serve bench.loads:live`."""
    rates = dict.fromkeys(("client", "user", "channel", "frames"), ENDLESS)
    config = {"tokens": {"secret": SECRET}, "limits": {"connects_per_second": 0}, "rates": rates, "origins": ["*"]}
    live = Freshet(config=parse(config), environment={})
    live.channel("kept", publish="client", history=KEPT)
    live.channel("bench", publish="client")
    live.channel("bench:{room}", publish="client")

    @live.rpc("echo")
    async def echo(session: Session, data: Any) -> Any:
        return data

    return live


def __getattr__(name: str) -> Freshet:
    """`live` is made when it is served, and not when a table is."""
    if name != "live":
        raise AttributeError(name)
    return application()


class Row(NamedTuple):
    """changes: of the plan. counted: what the CPU is divided by, of `Tally.counts`, or a series."""

    name: str
    load: str
    clients: int
    changes: dict[str, object]
    counted: str = "deliveries"


ROWS = [
    Row("chat, 1,000 rooms of 10, all publish, 500/s", "chat", 10_000, {"rate": 500.0}),
    Row("echo, 8 in flight", "echo", 100, {"in_flight": 8}),
    Row("rpc, 8 in flight", "rpc", 100, {"in_flight": 8}),
    Row("fan-out at 50/s, 1 KiB", "fanout", 1000, {"rate": 50.0, "payload": 1024}),
    Row("fan-out at 50/s, SSE", "fanout", 300, {"rate": 50.0, "dialect": "sse"}),
    Row("fan-out at 5/s, long polls", "fanout", 300, {"rate": 5.0, "dialect": "poll", "channel": "kept"}),
    Row("connect, token, subscribe, 32 at once", "connect", 1000, {}, "connect"),
    Row("recovery of all at once, 20 publications/s", "recovery", 10_000, {"rate": 20.0, "channel": "kept"}, "back"),
]


def plan(row: Row, url: str, seconds: float) -> Plan:
    tokens = [issue(SECRET, f"user{number}", expires_in=3600) for number in range(row.clients)]
    given = {"channel": "bench", "dialect": "centrifuge", **row.changes}
    return Plan(load=row.load, url=url, clients=row.clients, seconds=seconds, tokens=tokens, **given)  # type: ignore[arg-type]


def measure(row: Row, seconds: float) -> tuple[Measured, float]:
    """And microseconds of the server's CPU for each of what is counted, connecting left out where it can be."""
    port = free_port()
    command = [sys.executable, "-m", "freshet", "serve", "bench.loads:live", "--port", str(port)]
    with served(command, port, cwd=HERE.parent) as server:
        begun = server.cpu()

        def progress(name: str, number: int) -> None:
            nonlocal begun
            if name == "connected" and number < row.clients and row.load != "connect":
                begun = server.cpu()

        plans = shares(plan(row, f"http://127.0.0.1:{port}", seconds), 1)
        measured = asyncio.run(conduct(plans, WORKER, progress))
        used = server.cpu().since(begun)
    counted = measured.counts[row.counted] or len(measured.series.get(row.counted, ()))
    return measured, (used.user + used.system) / max(1, counted) * MICROSECONDS


def table(options: argparse.Namespace) -> list[str]:
    lines = ["| load | clients | a second | p50 ms | p99 ms | p99.9 ms | CPU us each | lost |", "|---|" + "---|" * 7]
    for row in ROWS:
        if options.only not in row.name:
            continue
        rounds = [measure(row, options.seconds) for _ in range(options.rounds)]
        series = LOADS[row.load].series
        late = [
            median(percentile(measured.series[series], share) for measured, _ in rounds) for share in (0.5, 0.99, 0.999)
        ]
        rate = median(_rate(row, measured) for measured, _ in rounds)
        cells = f"{rate:,.0f} | {late[0]:.2f} | {late[1]:.2f} | {late[2]:.2f} | {median(cpu for _, cpu in rounds):.1f}"
        lines.append(f"| {row.name} | {row.clients:,} | {cells} | {sum(lost(measured) for measured, _ in rounds)} |")
        print(lines[-1], file=sys.stderr)
    return lines


def _rate(row: Row, measured: Measured) -> float:
    """Of what is counted."""
    if row.counted == "connect":
        return measured.connects_per_second
    if row.counted == "back":
        return len(measured.series["back"]) / (percentile(measured.series["back"], 1.0) / 1000)
    return measured.counts[row.counted] / measured.seconds


def main() -> None:
    parser = benchmark_parser(__doc__, seconds=3.0, rounds=3)
    parser.add_argument("--only", default="", help="rows with this in their name")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write: the table has all rows")
    be_the_load()
    lines = [
        f"## What clients see, by `freshet bench`: medians of {options.rounds} rounds",
        "",
        "Counted, each second and for the CPU, are deliveries, connects, or clients that are back. The latency is from",
        "when a publication was due, until a client was subscribed, or from the cut until it was back.",
        "",
        *table(options),
    ]
    report("loads", lines, options)


if __name__ == "__main__":
    main()
