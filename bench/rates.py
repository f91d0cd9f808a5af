"""What the checks of `[rates]` cost a publication, in this process: with every rate off, and with all on, interleaved.

A client publishes in a channel with a log and some subscribers; no transport carries any of them. The rates that are on
are those of the defaults, but so high that nothing is refused. The figures are CPU of this process.

Run: python -m bench.rates, half a minute. With --write the table goes to bench/RESULTS.md.
"""

import asyncio
import time

from bench.arguments import benchmark_parser, numbers
from bench.pairs import pair_of, table
from bench.results import report
from freshet import Freshet, History
from freshet.config import Config, Rates, Tokens
from freshet.config.limits import RATES
from freshet.config.shapes import Rate
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.model.frame import Frame, Handshake
from freshet.session.session import Session

CHANNEL = "bench"
MICROSECONDS = 1e6
AT_ONCE = 32  # publications of a turn
PUBLISH = b'{"id":%%d,"publish":{"channel":"%b","data":{"price":%%d}}}' % CHANNEL.encode()
MOST = Rate(1e9, 1_000_000_000)


def application(rate: Rate) -> Freshet:
    config = Config(tokens=Tokens(anonymous=True), rates=Rates(**dict.fromkeys(RATES, rate)))
    live = Freshet(config=config, environment={})
    live.channel(CHANNEL, history=History(size=100, ttl=60), publish="subscriber")
    return live


async def joined(live: Freshet, count: int) -> list[Session]:
    """So many subscribers, whose transports take at once what they get."""
    sessions = [live._dispatcher.open(Centrifuge(), Handshake("/")) for _ in range(count)]
    for session in sessions:
        session.outbox.attach(session.outbox.take)
        session.open()
        session.receive(Frame(b'{"id":1,"connect":{}}'))
        await asyncio.sleep(0)
        session.receive(Frame(b'{"id":2,"subscribe":{"channel":"%b"}}' % CHANNEL.encode()))
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    assert live.statistics().subscriptions == count
    return sessions


async def measured(publisher: Session, turns: int) -> float:
    """Microseconds of CPU for each publication."""
    frames = [Frame(PUBLISH % (number + 10, number)) for number in range(AT_ONCE)]
    began = time.process_time()
    for _ in range(turns):
        for frame in frames:
            publisher.receive(frame)
        await asyncio.sleep(0)
    return (time.process_time() - began) / (turns * AT_ONCE) * MICROSECONDS


async def compared(subscribers: int, rounds: int) -> str:
    off, on = application(Rate(0, 1)), application(MOST)
    async with off.lifespan(), on.lifespan():
        publishers = [(await joined(live, subscribers))[0] for live in (off, on)]
        turns = max(4, 200 // subscribers)
        costs = [(await measured(publishers[0], turns), await measured(publishers[1], turns)) for _ in range(rounds)]
        for live in (off, on):
            assert (await live.history(CHANNEL, limit=0)).position.offset == rounds * turns * AT_ONCE
    return pair_of(costs).row(f"{subscribers:,}")


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=100)
    parser.add_argument("--scale", type=numbers, default=[1, 10, 100], help="subscribers")
    options = parser.parse_args()
    rows = [asyncio.run(compared(subscribers, options.rounds)) for subscribers in options.scale]
    lines = table("What the rates cost a publication of a client, without sockets", "no rates", "all rates", rows)
    report("rates", lines, options)


if __name__ == "__main__":
    main()
