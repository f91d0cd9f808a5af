"""A hundred thousand clients on one machine: connected, authenticated, subscribed, reached, cut, and recovered.

A process has 20,000 open files here, so that the clients are shared by several workers of `freshet serve`, and made by
several loads, from addresses of 127.0.0.0/8. Servers and loads share all cores. At each size on the way:

    connect   until there are so many clients, each with a token of its own and a subscription
    reach     one publication to all of them, several times, one after the other
    recover   all are cut at once, ten publications are missed, and all come back, with these

Run: make crowd, or python -m bench.crowd --help. It ends by itself, after ten minutes at the latest, and leaves nothing
running. With --write the table goes to bench/RESULTS.md, and what it means for a million to docs/guide/sizing.md.
"""

import argparse
import json
import math
import os
import signal
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from bench.arguments import benchmark_parser, numbers
from bench.beds import HERE, MICROSECONDS, Load, build, freshet_command, raise_open_files
from bench.process import KIB, Process, free_port, served
from bench.results import write
from bench.speeches import centrifuge

SIZING = HERE.parent / "docs" / "guide" / "sizing.md"
EACH = 15_000  # clients of a worker, and of a load: the kernel does not share connections evenly
LONGEST = 600  # seconds, of all
MISSED = 10  # publications
GIB = KIB**3
ALL = ",".join(map(str, sorted(os.sched_getaffinity(0))))


NOTE = f"""\
Each client has a token of its own and a subscription to the same channel, on workers of `freshet serve` and from loads
that share all cores. One publication goes to all, five times, one after the other: how late it is, and until the last
one has it. Then all are cut at once, miss {MISSED} publications, and come back: each has to be told that it recovered
them. *KiB each* is resident memory of all processes of the server, *machine* by how much the free memory fell, the
loads and both ends of each socket included.""".splitlines()


class Step(NamedTuple):
    """At one size. CPU in microseconds for each client or delivery; memory in bytes; latency in milliseconds."""

    clients: int
    connecting: float
    connect_cpu: float
    memory: float
    machine: float
    p50: float
    p99: float
    last: float
    delivery_cpu: float
    recovering: float
    recover_cpu: float


class Loads:
    """Several of load.c, as one. The first also publishes."""

    def __init__(self, port: int, work: Path, count: int, each: int) -> None:
        self._work = work
        self._speech = centrifuge().write(work / "speech")
        self._each = [Load(port, self._speech, work, first=number * each, cores=ALL) for number in range(count)]

    def _share(self, clients: int) -> list[int]:
        """So that each has no more than it may."""
        count = len(self._each)
        return [clients // count + (number < clients % count) for number in range(count)]

    def connect(self, clients: int) -> None:
        self._do([f"connect {share}" for share in self._share(clients)])

    def reach(self, clients: int) -> Counter[int]:
        """One publication to all; microseconds until it came, and how many times."""
        shares = self._share(clients)
        self._do(["open 1 128 0.001", *(f"receive {share} 60" for share in shares[1:])], first_last=True)
        latencies: Counter[int] = Counter()
        for number, load in enumerate(self._each):
            file = self._work / f"samples{number}"
            load.do(f"samples {file}")
            for line in file.read_text().splitlines():
                late, count = map(int, line.split())
                latencies[late] += count
        if latencies.total() != clients:
            raise RuntimeError(f"{latencies.total():,} of {clients:,} clients were reached")
        return latencies

    def cut(self) -> None:
        self._do(["cut"] * len(self._each))

    def miss(self, publications: int) -> None:
        self._each[0].do(f"open {publications * 100} 128 0.01")

    def recover(self, clients: int, epoch: str, offset: int) -> None:
        """Each has to be told `recovered`, or its load ends."""
        place = f',"recover":true,"epoch":"{epoch}","offset":{offset}'
        again = centrifuge(place, b'"recovered":true').write(self._work / "speech-again")
        self._do([f"speak {again}"] * len(self._each))
        self.connect(clients)
        self._do([f"speak {self._speech}"] * len(self._each))

    def _do(self, commands: list[str], *, first_last: bool = False) -> None:
        """At the same time. first_last: the first begins when the others wait."""
        pairs = list(zip(self._each, commands, strict=True))
        for load, command in pairs[::-1] if first_last else pairs:
            load.begin(command)
        for load in self._each:
            load.answer()

    def end(self) -> None:
        for load in self._each:
            load.end()


def percentile(latencies: Counter[int], share: float) -> float:
    """Milliseconds."""
    passed = 0
    for late in sorted(latencies):
        passed += latencies[late]
        if passed >= share * latencies.total():
            return late / 1000
    raise ValueError("no latencies")


def ask(port: int, method: str, **request: object) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}/api/{method}"
    posted = urllib.request.Request(url, json.dumps(request).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(posted, timeout=30) as answer:
        result: dict[str, Any] = json.load(answer)["result"]
    return result


def available() -> int:
    """Bytes that the machine has left."""
    return int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]) * KIB


def step(server: Process, loads: Loads, clients: int, before: tuple[int, int, int]) -> Step:
    """before: clients that there are; memory of the server and what the machine had left, when nobody was there."""
    already, empty, left = before

    def timed(work: Any, *given: Any) -> tuple[float, float, Any]:
        """Seconds by the clock, seconds of the server's CPU, and what it gave."""
        cpu, began = server.cpu_of_all(), time.monotonic()
        result = work(*given)
        seconds, used = time.monotonic() - began, server.cpu_of_all().since(cpu)
        return seconds, used.user + used.system, result

    connecting, connect_cpu, _ = timed(loads.connect, clients)
    time.sleep(2)
    memory, machine = server.memory_of_all() - empty, left - available()
    reached: Counter[int] = Counter()
    delivery_cpu = 0.0
    for _ in range(5):
        _, used, latencies = timed(loads.reach, clients)
        reached += latencies
        delivery_cpu += used
    place = ask(server.port, "history", channel="bench", limit=0)

    def away() -> None:
        loads.cut()
        loads.miss(MISSED)
        loads.recover(clients, place["epoch"], place["offset"])

    recovering, recover_cpu, _ = timed(away)
    if loads.reach(clients).total() != clients:
        raise RuntimeError("not all are back")
    more = clients - already
    return Step(
        clients=clients,
        connecting=connecting,
        connect_cpu=connect_cpu / more * MICROSECONDS,
        memory=memory,
        machine=machine,
        p50=percentile(reached, 0.5),
        p99=percentile(reached, 0.99),
        last=percentile(reached, 1.0),
        delivery_cpu=delivery_cpu / reached.total() * MICROSECONDS,
        recovering=recovering,
        recover_cpu=recover_cpu / clients * MICROSECONDS,
    )


@contextmanager
def serving(workers: int) -> Iterator[Process]:
    """With all its workers, which are gone afterwards, whatever happens."""
    port = free_port()
    command = [*freshet_command(port, HERE / "crowd.toml"), "--workers", str(workers)]
    children: list[int] = []
    try:
        with served(command, port, core=ALL) as server:
            time.sleep(3)  # the port is the parent's; the workers come
            children = server.children()
            yield server
    finally:
        for pid in children:  # they end with their parent, and drain; nobody is there any more
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def measure(options: argparse.Namespace, work: Path) -> list[Step]:
    most = max(options.sizes)
    count = math.ceil(most / options.each)
    build(work, tokens=count * options.each + 1)
    steps: list[Step] = []
    left = available()
    with serving(count) as server:
        empty = server.memory_of_all()
        loads = Loads(server.port, work, count, options.each)
        try:
            already = 0
            for clients in sorted(options.sizes):
                steps.append(step(server, loads, clients, (already, empty, left)))
                already = clients
                print(steps[-1], file=sys.stderr)
        finally:
            loads.end()
    return steps


# ------------------------------------------------------------------------------------------------------------- tables


def table(steps: list[Step]) -> list[str]:
    columns = (
        "clients | connected in, s | CPU us each | KiB each | machine, GiB | one publication: p50 ms | p99 | to all"
    )
    lines = [f"| {columns} | CPU us a delivery | cut and recovered in, s | CPU us each |", "|" + "---|" * 11]
    for each in steps:
        size = f"{each.memory / each.clients / KIB:.2f} | {max(0, each.machine) / GIB:.2f}"
        late = f"{each.p50:.0f} | {each.p99:.0f} | {each.last:.0f} | {each.delivery_cpu:.2f}"
        ways = f"{each.connecting:.1f} | {each.connect_cpu:.0f}", f"{each.recovering:.1f} | {each.recover_cpu:.0f}"
        lines.append(f"| {each.clients:,} | {ways[0]} | {size} | {late} | {ways[1]} |")
    return lines


def on_paper(step: Step, cores: int = 64, machines: int = 4) -> list[str]:
    """What the largest size means for ten times a hundred thousand, by multiplication."""
    million = 1_000_000
    memory = step.memory / step.clients * million
    files = math.ceil(million / 50_000)
    used = {
        "CPU for one publication to all": step.delivery_cpu,
        "CPU until all are connected": step.connect_cpu,
        "CPU until all are back, with what they missed": step.recover_cpu,
    }
    sockets = "memory of the machine: Freshet, the kernel's sockets, and here the load and its sockets"
    rows = [
        ("memory of Freshet", f"{step.memory / GIB:.2f} GiB", f"{memory / GIB:.1f} GiB"),
        *(_cpu(what, each, step.clients, cores) for what, each in used.items()),
    ]
    if step.machine > step.memory:  # otherwise something else ended meanwhile
        most = step.machine / step.clients * million
        rows.insert(1, (sockets, f"{step.machine / GIB:.1f} GiB", f"at most {most / GIB:.0f} GiB"))
    return [
        f"Measured with {step.clients:,} clients on one machine; the last column is multiplication; nobody has seen",
        f"it: {machines} machines with {cores // machines} cores each, on Redis or NATS, half of each core left free.",
        "",
        f"| | {step.clients:,}, measured | a million, on paper |",
        "|---|---|---|",
        *(f"| {what} | {here} | {there} |" for what, here, there in rows),
        "",
        f"That is {files} workers of 50,000 clients, with as many open files each (`LimitNOFILE`), and a rate of",
        "admission (`limits.connects_per_second`) that fits the last two rows.",
    ]


def _cpu(what: str, each: float, clients: int, cores: int) -> tuple[str, str, str]:
    """A row: what it takes here, and for a million on half of each core. each: microseconds."""
    seconds = each * 1_000_000 / MICROSECONDS
    measured = f"{each * clients / MICROSECONDS:.2g} s"
    return what, measured, f"{seconds:.3g} s: {seconds / (cores / 2):.2g} s on {cores} cores"


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--sizes", type=numbers, default=[1000, 10_000, 100_000], help="clients, step by step")
    parser.add_argument("--each", type=int, default=EACH, help="clients of one worker and of one load")
    options = parser.parse_args()
    raise_open_files()

    def too_long(*_: object) -> NoReturn:
        raise TimeoutError(f"it took more than {LONGEST} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LONGEST)
    with tempfile.TemporaryDirectory() as folder:
        steps = measure(options, Path(folder))
    lines = [
        f"## {max(options.sizes):,} clients on one machine",
        "",
        *NOTE,
        "",
        *table(steps),
    ]
    print("\n".join(lines))
    if options.write:
        write("crowd", lines)
        write("million", on_paper(steps[-1]), SIZING)


if __name__ == "__main__":
    main()
