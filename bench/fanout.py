"""Fan-out, measured: server CPU per delivery, latency, connects, idle memory, beside a C loop of `send()`.

The server has one core, the load (load.c) another. Rounds of the two servers are interleaved, and medians are shown: a
machine's noise then falls on both. CPU is what the kernel accounts to the server's process, user and system apart.

Run: make bench, or python -m bench.fanout --help; `--shares '' --idle 0 --scale ''` leaves all but the first table
out. With --write the tables go to bench/RESULTS.md.
"""

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench.arguments import benchmark_parser, numbers
from bench.beds import MICROSECONDS, bed, build, freshet_command, loaded, raise_open_files
from bench.process import KIB, free_port, served
from bench.results import report
from bench.speeches import centrifuge, with_channels

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
    return lines


def latency(options: argparse.Namespace, work: Path) -> list[str]:
    """At a part of the rate at which it can do no more: open loop, from when each publication was due."""
    lines = [
        "| of the saturation rate | publications/s | deliveries/s | user us | whole us | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|---|",
    ]
    with bed("freshet", work) as freshet:
        freshet.do(f"connect {options.subscribers}")
        full = [freshet.do(f"closed 1 {options.payload} {options.seconds}") for _ in range(options.rounds)]
        saturation = median(each["published"] / each["seconds"] for each in full)
        for share in options.shares:
            rate = saturation * share / 100
            command = f"open {rate:.1f} {options.payload} {options.seconds}"
            rounds = [freshet.round(command) for _ in range(options.rounds)]
            user, total, p50, p99 = (median(each) for each in zip(*rounds, strict=True))
            deliveries = rate * options.subscribers
            lines.append(
                f"| {share} % | {rate:,.0f} | {deliveries:,.0f} | {user:.3f} | {total:.2f} | {p50:.2f} | {p99:.2f} |"
            )
    return [
        *lines,
        "",
        "The saturation rate is that of one publication in flight after the other. What the load itself needs to read",
        "all that comes is in these latencies.",
    ]


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


def many_channels(options: argparse.Namespace, work: Path) -> list[str]:
    """What a delivery costs as the channels become more in which the same subscribers are."""
    lines = ["| channels | user us | whole us | of one channel |", "|---|---|---|---|"]
    command = f"closed 1 {options.payload} {options.seconds}"
    with ExitStack() as stack:
        beds = {}
        for each in (0, 1, 10, 100):
            server = stack.enter_context(served(freshet_command(port := free_port()), port))
            beds[each] = stack.enter_context(loaded(server, with_channels(centrifuge(), each), work))
            beds[each].do(f"connect {options.subscribers}")
        rounds = [{each: it.round(command) for each, it in beds.items()} for _ in range(options.rounds)]
    for each in beds:
        user, total, *_ = (median(column) for column in zip(*(costs[each] for costs in rounds), strict=True))
        ratio = median(costs[each].total / costs[0].total for costs in rounds)
        lines.append(f"| {each * options.subscribers or 1:,} | {user:.3f} | {total:.2f} | {ratio:.2f} |")
    return lines


def main() -> None:
    parser = benchmark_parser(__doc__, subscribers=1000, payload=128, windows=[1, 8], seconds=3, rounds=5)
    parser.add_argument("--idle", type=int, default=10_000, help="clients of the memory row; 0: none")
    parser.add_argument(
        "--shares", type=numbers, default=[10, 50, 90], help="%% of the saturation rate, for the latency; empty: none"
    )
    parser.add_argument(
        "--scale", type=numbers, default=[1, 10, 100, 1000, 5000, 15000], help="subscribers; empty: none"
    )
    options = parser.parse_args()
    raise_open_files()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        build(work)
        title = f"## {options.subscribers:,} subscribers, {options.payload} bytes, {options.rounds} interleaved rounds"
        lines = [title, "", *fan_out(options, work)]
        if options.shares:
            lines += ["", "## Latency at a rate", "", *latency(options, work)]
        if options.idle:
            lines += ["", "## Clients", "", *clients(options, work)]
        if options.scale:
            lines += ["", "## One publication in flight, by subscribers", "", *scale(options, work)]
            title = f"## By channels: {options.subscribers:,} subscribers of one, which are in all the others, too"
            lines += ["", title, "", *many_channels(options, work)]
    report("fanout", lines, options)


if __name__ == "__main__":
    main()
