"""What a delivery costs the server, over each transport and dialect, beside python-socketio and npm socket.io.

All do the same: a client emits an event, and the server emits its argument to a room. The servers have one
core, the load another. Rounds are interleaved, and medians are shown: a machine's noise then falls on all. CPU is
what the kernel accounts to the server's process, for a publication and its deliveries, divided by these.

Run: make bench, or python -m bench.clients --help. With --write the table goes to bench/RESULTS.md.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import uvloop

from bench.arguments import benchmark_parser
from bench.process import Process, be_the_load, free_port, served
from bench.results import report
from bench.subscribers import MARK, SOCKETIO_POLLING, SOCKETIO_WEBSOCKET, WAYS, Count, Subscriber, Way, framed

HERE = Path(__file__).parent
PEERS = HERE / "peers"
MICROSECONDS = 1e6
WARM_UP = 1.0  # seconds in which nothing is measured: Node compiles what runs often
BESIDE = {way.name: way.beside or way.name for way in WAYS}
DATA = b"{" + MARK + b':%d,"pad":"%b"}'

COUNTED = """\
A Socket.IO client over WebSocket emits `say`, and the server emits its argument to a room of the subscribers, which get
nothing else; so many of these are in flight, and the next follow when all subscribers have all of them. Counted is the
CPU of the server's process for all of it, divided by the deliveries: what came in, the emit, and, with long polling,
the request that each answer takes. Freshet's room is a channel with a log of 100 publications; what is emitted to it
reaches the subscribers of its other dialects too. The servers are as one installs them: `freshet serve`,
python-socketio on uvicorn with uvloop and httptools, `socket.io` on Node without a cluster; no compression, one process
each. The column "of Freshet" says how many times Freshet's cost another server's is, "of the WebSocket" how many times
that of the same server and dialect over a WebSocket.""".splitlines()


class Server(NamedTuple):
    name: str
    process: Process
    ways: list[Way]


class Cost(NamedTuple):
    """Microseconds of CPU per delivery. late: milliseconds until all have it, in the median."""

    user: float
    whole: float
    late: float


class Publisher(Subscriber):
    """A Socket.IO client that emits, and receives nothing."""

    def emit(self, numbers: range, payload: int) -> None:
        pad = b"x" * (payload - len(DATA % (0, b"")))
        for number in numbers:
            self.transport.write(framed(b'42["say",%b]' % (DATA % (number % 10, pad))))


async def measure(server: Server, way: Way, window: int, options: argparse.Namespace) -> Cost:
    """One round: the clients subscribe, receive for a while, and go."""
    loop, count = asyncio.get_running_loop(), Count()
    emits = Way("publisher", SOCKETIO_WEBSOCKET.steps[:2], Subscriber)
    _, publisher = await loop.create_connection(lambda: Publisher(Count(), emits), "127.0.0.1", server.process.port)
    await publisher.ready
    subscribers: list[Subscriber] = []
    while left := options.subscribers - len(subscribers):
        made = [
            (await loop.create_connection(lambda: way.subscriber(count, way), "127.0.0.1", server.process.port))[1]
            for _ in range(min(20, left))
        ]
        await asyncio.gather(*(subscriber.ready for subscriber in made))
        subscribers += made
    await _all_are_in(publisher, count, options)
    await _deliver(publisher, count, window, options, WARM_UP)
    before = server.process.cpu()
    times = await _deliver(publisher, count, window, options, options.seconds)
    cost = server.process.cpu().since(before)
    for each in (*subscribers, publisher):
        each.transport.abort()
    await asyncio.sleep(0.3)
    per = MICROSECONDS / (len(times) * options.subscribers * window)
    return Cost(cost.user * per, (cost.user + cost.system) * per, median(times) * 1000)


async def _deliver(
    publisher: Publisher, count: Count, window: int, options: argparse.Namespace, seconds: float
) -> list[float]:
    """How long it took each time until all had all that was in flight, in seconds."""
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end or not times:
        began = time.monotonic()
        count.expect(options.subscribers * window)
        publisher.emit(range(window), options.payload)
        await asyncio.wait_for(count.done.wait(), 20)
        times.append(time.monotonic() - began)
    return times


async def _all_are_in(publisher: Publisher, count: Count, options: argparse.Namespace) -> None:
    """A bare WebSocket is not notified when it is subscribed: until all receive the same publication."""
    for _ in range(20):
        await asyncio.sleep(0.2)
        count.expect(options.subscribers)
        publisher.emit(range(1), options.payload)
        with suppress(TimeoutError):
            await asyncio.wait_for(count.done.wait(), 1)
            return
    raise TimeoutError("not all subscribers receive")


def start(stack: ExitStack, *, ours: bool = False) -> list[Server]:
    """Each on the same core; only one of them has something to do at a time. ours: Freshet alone."""
    port = free_port()
    serve = [sys.executable, "-m", "freshet", "serve", "freshet_app:live", "--port", str(port)]
    freshet = Server("Freshet", stack.enter_context(served(serve, port, cwd=PEERS)), WAYS)
    return [freshet] if ours else [freshet, *_others(stack)]


def _others(stack: ExitStack) -> list[Server]:
    if not (PEERS / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=PEERS, check=True, stdout=subprocess.DEVNULL)
    python, npm = free_port(), free_port()
    both = [SOCKETIO_WEBSOCKET, SOCKETIO_POLLING]
    uvicorn = [sys.executable, "-m", "uvicorn", "socketio_app:app", "--port", str(python)]
    uvicorn += ["--log-level", "error", "--no-access-log"]
    node = ["node", "server.mjs", str(npm)]
    return [
        Server("python-socketio", stack.enter_context(served(uvicorn, python, cwd=PEERS)), both),
        Server("npm socket.io", stack.enter_context(served(node, npm, cwd=PEERS)), both),
    ]


async def rounds(options: argparse.Namespace) -> dict[tuple[str, str, int], list[Cost]]:
    costs: dict[tuple[str, str, int], list[Cost]] = defaultdict(list)
    for number in range(options.rounds):
        for window in options.windows:
            # Anew each time: a poller that is gone is known to be gone only when its heartbeat fails.
            with ExitStack() as stack:
                for server in start(stack, ours=options.ours):
                    for way in server.ways:
                        if not any(each in way.name for each in options.only.split("|")):
                            continue
                        try:
                            cost = await measure(server, way, window, options)
                        except (TimeoutError, ConnectionError) as error:
                            raise RuntimeError(f"{server.name}, {way.name}, {window} in flight: {error!r}") from error
                        costs[way.name, server.name, window].append(cost)
                        print(number, window, server.name, way.name, cost, file=sys.stderr)
    return costs


def table(costs: dict[tuple[str, str, int], list[Cost]], windows: list[int]) -> list[str]:
    """of Freshet, of the WebSocket: how many times what that costs for the same, in the median of rounds."""
    head = "user us | whole us | of Freshet | of the WebSocket | all have it, ms"
    heads = [f"{window} in flight: {head}" for window in windows]
    lines = [f"| clients | server | {' | '.join(heads)} |", "|---|---|" + "---|" * 5 * len(windows)]
    for way, server in dict.fromkeys((way, server) for way, server, _ in costs):
        cells = []
        for window in windows:
            rounds = costs[way, server, window]
            user, whole, late = (median(each) for each in zip(*rounds, strict=True))
            others = (costs.get((way, "Freshet", window), []), costs.get((BESIDE[way], server, window), []))
            ratios = " | ".join(_ratio(rounds, each) for each in others)
            cells.append(f"{user:.2f} | {whole:.2f} | {ratios} | {late:.1f}")
        lines.append(f"| {way} | {server} | {' | '.join(cells)} |")
    return lines


def _ratio(costs: list[Cost], others: list[Cost]) -> str:
    """What something costs, of what another did in the same round."""
    if costs is others:
        return "1"
    ratios = [cost.whole / other.whole for cost, other in zip(costs, others, strict=False)]
    return f"{median(ratios):.2f}" if ratios else "-"


def main() -> None:
    parser = benchmark_parser(__doc__, subscribers=300, payload=128, windows=[1, 8], seconds=1.0, rounds=5)
    parser.add_argument("--only", default="", help="rows with one of these in their name: 'SSE|Centrifuge JSON'")
    parser.add_argument("--ours", action="store_true", help="without the servers of others")
    options = parser.parse_args()
    if options.write and (options.only or options.ours):
        parser.error("--write: the table has all rows")
    be_the_load()
    costs = uvloop.run(rounds(options))
    what = f"{options.subscribers} subscribers, {options.payload} bytes, {options.rounds} interleaved rounds"
    lines = [f"## Each transport and dialect: {what}", "", *COUNTED, "", *table(costs, options.windows)]
    report("clients", lines, options)


if __name__ == "__main__":
    main()
