"""What counting costs a fan-out, in this process: without what is counted for metrics, and with it, interleaved.

Sessions that no transport carries get publications of a channel, turn by turn. One hub counts as it does; of the other
one, what counts is left out. The figures are CPU of this process.

Run: python -m bench.observing, less than a minute. With --write the table goes to bench/RESULTS.md.
"""

import asyncio
import time

from bench.arguments import benchmark_parser, numbers
from bench.pairs import pair_of, table
from bench.results import report
from freshet import Freshet
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.hub.hub import Hub
from freshet.model.events import Published
from freshet.model.frame import Handshake
from freshet.model.log import Kind, Publication, Stamp
from freshet.rules.rules import ChannelRule
from freshet.session.outbox import Outbox, Turn
from freshet.session.session import Session

CHANNEL = "bench"
MICROSECONDS = 1e6


class Uncounted(Hub):
    """As it would be if nobody wanted to know: what went where is noted, which is little, and added up by nobody."""

    def _written(self) -> None:
        self._unwritten.clear()


async def made(live: Freshet, kind: type[Hub], subscribers: int) -> Hub:
    """A hub with so many, whose transports take at once what they get."""
    node, turn = live._node, Turn()
    hub = kind(node.engine, turn, node=node.id)
    rule = ChannelRule(CHANNEL)
    for _ in range(subscribers):
        outbox = Outbox(turn, 1 << 20)
        session = Session(live._dispatcher, Centrifuge(), outbox, Handshake("/"), None)
        outbox.attach(outbox.take)
        hub.settle(await hub.join(session, CHANNEL, rule), None, None)
    return hub


def measured(hub: Hub, stamp: bool, publications: int) -> float:
    """Microseconds of CPU for each publication. stamp: it travels with the time at which it was accepted."""
    began = time.process_time()
    for _ in range(publications):
        it = Publication(b'{"price":1}', 0, Kind.JSON, None, None, Stamp(time.time(), "here") if stamp else None)
        hub.deliver(Published(CHANNEL, it))
        hub._turn.end()
    return (time.process_time() - began) / publications * MICROSECONDS


async def compared(subscribers: int, rounds: int) -> str:
    live = Freshet(dev=True, environment={})
    async with live.lifespan():
        plain, counted = await made(live, Uncounted, subscribers), await made(live, Hub, subscribers)
        publications = max(20, 20_000 // subscribers)
        costs = [(measured(plain, False, publications), measured(counted, True, publications)) for _ in range(rounds)]
    return pair_of(costs).row(f"{subscribers:,}")


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=60)
    parser.add_argument("--scale", type=numbers, default=[10, 100, 1000], help="subscribers")
    options = parser.parse_args()
    rows = [asyncio.run(compared(subscribers, options.rounds)) for subscribers in options.scale]
    lines = table("What counting costs a fan-out, without sockets", "uncounted", "counted", rows)
    lines += ["", "With sockets, and what comes before, a publication costs what the fan-out's table says for as many."]
    report("observing", lines, options)


if __name__ == "__main__":
    main()
