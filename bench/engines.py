"""Each engine under publications: how many a second get through, what one costs, and what more nodes cost.

Publications are posted to the API, in batches, by a few publishers of which each waits for its answer before it posts
again. Servers share one core; the load and the brokers have the other. CPU is what the kernel accounts to the processes
of the servers, and to the broker's. Rounds of the engines are interleaved, and medians are shown.

Run: make bench, or python -m bench.engines --help. With --write the table goes to bench/RESULTS.md.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
import uvloop

from bench.arguments import benchmark_parser
from bench.process import Process, be_the_load, free_port, served
from bench.results import report
from bench.storm import serve
from bench.subscribers import BEGIN, MARK, UPGRADE, Count, Poller, Subscriber, Way, framed

MICROSECONDS = 1e6
PUBLISHERS = 4
BATCH = 50
NODES = (1, 2, 4, 8)
NONE = Way("publisher", [(b"", b"")], Subscriber)

MEASURED = """\
Publications of 128 bytes in channels that keep 1,000, posted to `/api/batch` by four publishers, 50 in a batch, which
need not run one after the other. *One subscriber*: ten channels with a WebSocket each. The *subscribers* after that:
all in one channel. *Alone*: one publisher that posts one publication to `/api/publish` and waits until it is
acknowledged, in the median. Up to 200 are under way at once, and what a turn of the loop brings goes out in one write
for each client, which is why a delivery costs so little. The servers have one core together, so that four workers do
not do more than one; the load and the broker have the other. SQLite syncs each commit, JetStream writes files, Redis
writes nothing to disk here. CPU is that of the servers, and of the broker, for each publication.""".splitlines()
NODES_MEASURED = """\
Everything is published at the first node. *One subscribed*: only a client at the first node is subscribed to the
channel. *All subscribed*: a client at each. *Others*: the CPU of all other nodes together, per
publication.""".splitlines()


class Place(NamedTuple):
    """servers: the first is published at. broker: None for what needs none."""

    name: str
    servers: list[Process]
    broker: Process | None

    def cpu(self) -> tuple[float, float, float]:
        """Seconds: of the first server, of the others, of the broker."""
        first, *others = (sum(server.cpu_of_all()) for server in self.servers)
        return first, sum(others), sum(self.broker.cpu()) if self.broker else 0.0


class Cost(NamedTuple):
    """rate: publications a second. The rest: microseconds of CPU for each."""

    rate: float
    first: float
    others: float
    broker: float


class Publisher(Poller):
    """Posts the same over and over. count: answers."""

    request = b""
    goes_on = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.ready.set_result(None)

    def begin(self, request: bytes) -> None:
        self.request = request
        self.transport.write(request)

    def answered(self, head: bytes, body: bytes) -> None:
        if not head.startswith(b"HTTP/1.1 200") or b'"error"' in body:
            raise ConnectionError(f"a publication was refused: {body!r}")
        self._count.add(1)
        if self.goes_on:
            self.transport.write(self.request)


def posted(method: str, body: Any) -> bytes:
    data = msgspec.json.encode(body)
    head = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(data)
    return b"POST" + BEGIN[3:] % (b"/api/" + method.encode(), head) + data


def publication(channel: str) -> dict[str, Any]:
    head = f'{{{MARK.decode()}:1,"pad":"'
    return {"channel": channel, "data": msgspec.Raw(f'{head}{"x" * (126 - len(head))}"}}'.encode())}


def batch(channels: Sequence[str]) -> bytes:
    commands = [{"publish": publication(channels[index % len(channels)])} for index in range(BATCH)]
    return posted("batch", {"commands": commands, "parallel": True})


def subscription_to(channel: str) -> Way:
    lines = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"%b"}}' % channel.encode()
    steps = [(BEGIN % (b"/connection/websocket", UPGRADE % b""), b"\r\n\r\n"), (framed(lines), b'"id":2')]
    return Way("subscriber", steps, Subscriber)


async def connect(server: Process, count: Count, way: Way, kind: type[Subscriber]) -> Any:
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(lambda: kind(count, way), "127.0.0.1", server.port))[1]


async def subscribe(servers: Sequence[Process], channels: Sequence[str], number: int) -> tuple[Count, list[Subscriber]]:
    """So many of them, at each server and channel in turn."""
    count, subscribers = Count(), []
    for index in range(number):
        way = subscription_to(channels[index % len(channels)])
        subscribers.append(await connect(servers[index % len(servers)], count, way, Subscriber))
        await subscribers[-1].ready
    return count, subscribers


async def run(place: Place, channels: Sequence[str], number: int, seconds: float) -> Cost:
    """One measurement: publications to each channel in turn, until the subscribers that share the channels have all."""
    deliveries, subscribers = await subscribe(place.servers, channels, number)
    answers = Count()
    publishers = [await connect(place.servers[0], answers, NONE, Publisher) for _ in range(PUBLISHERS)]
    before, began = place.cpu(), time.monotonic()
    for publisher in publishers:
        publisher.begin(batch(channels))
    await asyncio.sleep(seconds)
    answers.expect(PUBLISHERS)
    for publisher in publishers:
        publisher.goes_on = False
    await asyncio.wait_for(answers.done.wait(), 20)
    published = answers.received * BATCH
    if missing := published * number // len(channels) - deliveries.received:
        deliveries.expect(missing)
        await asyncio.wait_for(deliveries.done.wait(), 60)
    took = time.monotonic() - began
    used = [after - was for was, after in zip(before, place.cpu(), strict=True)]
    for one in (*subscribers, *publishers):
        one.transport.abort()
    await asyncio.sleep(0.2)
    return Cost(published / took, *(MICROSECONDS * cpu / published for cpu in used))


async def alone(place: Place, seconds: float) -> float:
    """Milliseconds for one publication, in the median."""
    answers, times = Count(), []
    publisher = await connect(place.servers[0], answers, NONE, Publisher)
    publisher.goes_on = False
    request, end = posted("publish", publication("c0")), time.monotonic() + seconds
    while time.monotonic() < end:
        answers.expect(1)
        began = time.monotonic()
        publisher.begin(request)
        await answers.done.wait()
        times.append(time.monotonic() - began)
    publisher.transport.abort()
    return median(times) * 1000


def broker(stack: ExitStack, kind: str, folder: Path) -> tuple[Process, str]:
    """On the core of the load. And its URL."""
    port = free_port()
    redis = ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)]
    nats = ["nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder / "nats")]
    process = stack.enter_context(served(redis if kind == "redis" else nats, port, core=1))
    return process, f"{kind}://127.0.0.1:{port}"


def places(stack: ExitStack, folder: Path) -> list[Place]:
    """One server with each engine."""
    made = []
    for name, engine, workers in (
        ("memory", "memory://", 1),
        ("memory, 4 workers", "memory://", 4),
        ("SQLite", f"sqlite:///{folder}/freshet.db", 1),
        ("Redis", "redis", 1),
        ("NATS", "nats", 1),
    ):
        process, url = (None, engine) if "://" in engine else broker(stack, engine, folder)
        arguments = ("--workers", str(workers)) if workers > 1 else ()
        made.append(Place(name, [serve(stack, folder, free_port(), 0, url, arguments)], process))
    return made


async def engines(options: argparse.Namespace, folder: Path) -> list[str]:
    ten = [f"c{number}" for number in range(10)]
    one: defaultdict[str, list[Cost]] = defaultdict(list)
    many: defaultdict[str, list[Cost]] = defaultdict(list)
    late: defaultdict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        made = places(stack, folder)
        await asyncio.sleep(1)
        for number in range(options.rounds):
            for place in made:
                one[place.name].append(await run(place, ten, len(ten), options.seconds))
                many[place.name].append(await run(place, ["many"], options.subscribers, options.seconds))
                late[place.name].append(await alone(place, options.seconds))
                print(number, place.name, one[place.name][-1], many[place.name][-1], file=sys.stderr)
    many_are = f"{options.subscribers} subscribers: publications/s | deliveries/s | CPU us a delivery"
    lines = [
        f"| engine | one subscriber: publications/s | CPU us | broker us | {many_are} | alone, ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, costs in one.items():
        rate, cpu, _, brokers = (median(column) for column in zip(*costs, strict=True))
        fan = [median(column) for column in zip(*many[name], strict=True)]
        lines.append(
            f"| {name} | {rate:,.0f} | {cpu:.0f} | {brokers:.0f} | {fan[0]:,.0f} | "
            f"{fan[0] * options.subscribers:,.0f} | {fan[1] / options.subscribers:.2f} | {median(late[name]):.2f} |"
        )
    return lines


async def nodes(options: argparse.Namespace, folder: Path) -> list[str]:
    costs: defaultdict[tuple[int, bool], list[Cost]] = defaultdict(list)
    for number in (number for _ in range(options.rounds) for number in NODES):
        with ExitStack() as stack:
            process, url = broker(stack, "redis", folder)
            place = Place("", [serve(stack, folder, free_port(), 0, url) for _ in range(number)], process)
            await asyncio.sleep(1)
            for everywhere in (False, True):
                subscribers = number if everywhere else 1
                costs[number, everywhere].append(await run(place, ["c"], subscribers, options.seconds))
            print(number, costs[number, False][-1], costs[number, True][-1], file=sys.stderr)
    lines = [
        "| nodes | who | publications/s | first node, CPU us | others, CPU us | Redis, CPU us |",
        "|---|---|---|---|---|---|",
    ]
    for everywhere in (False, True):
        for number in NODES:
            rate, first, others, its = (median(each) for each in zip(*costs[number, everywhere], strict=True))
            who = "all subscribed" if everywhere else "one subscribed"
            lines.append(f"| {number} | {who} | {rate:,.0f} | {first:.1f} | {others:.1f} | {its:.1f} |")
    return lines


def main() -> None:
    options = benchmark_parser(__doc__, subscribers=300, seconds=2.0, rounds=5).parse_args()
    be_the_load()
    with tempfile.TemporaryDirectory() as folder:
        through = uvloop.run(engines(options, Path(folder)))
        grown = uvloop.run(nodes(options, Path(folder)))
    lines = [
        f"## Publications through each engine, {options.rounds} interleaved rounds",
        "",
        *MEASURED,
        "",
        *through,
        "",
    ]
    lines += [f"## What more nodes on one Redis cost, {options.rounds} rounds", "", *NODES_MEASURED, "", *grown]
    report("engines", lines, options)


if __name__ == "__main__":
    main()
