"""What the checks of `[rates]` cost a publication, in this process: with every rate off, and with all on, interleaved.

A client publishes in a channel with a log and some subscribers; no transport carries any of them. The rates that are on
are those of the defaults, but so high that nothing is refused. The figures are CPU of this process.

Run: python -m bench.rates, half a minute. With --write the table goes to bench/RESULTS.md.
"""

import asyncio
import time
from statistics import median

from bench.arguments import benchmark_parser, numbers
from bench.results import write
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
    """Seconds of CPU for each publication."""
    frames = [Frame(PUBLISH % (number + 10, number)) for number in range(AT_ONCE)]
    began = time.process_time()
    for _ in range(turns):
        for frame in frames:
            publisher.receive(frame)
        await asyncio.sleep(0)
    return (time.process_time() - began) / (turns * AT_ONCE)


async def compared(subscribers: int, rounds: int) -> str:
    off, on = application(Rate(0, 1)), application(MOST)
    async with off.lifespan(), on.lifespan():
        publishers = [(await joined(live, subscribers))[0] for live in (off, on)]
        turns = max(4, 200 // subscribers)
        pairs = [[await measured(publisher, turns) for publisher in publishers] for _ in range(rounds)]
        for live in (off, on):
            assert (await live.history(CHANNEL, limit=0)).position.offset == rounds * turns * AT_ONCE
    without, checked = (median(side) * MICROSECONDS for side in zip(*pairs, strict=True))
    ratio = median(after / before for before, after in pairs)
    return f"| {subscribers:,} | {without:.2f} | {checked:.2f} | {checked - without:.2f} | {ratio:.3f} |"


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=100)
    parser.add_argument("--scale", type=numbers, default=[1, 10, 100], help="subscribers")
    options = parser.parse_args()
    lines = [
        "## What the rates cost a publication of a client, without sockets",
        "",
        "| subscribers | us for each publication, no rates | all rates | more | ratio |",
        "|---|---|---|---|---|",
    ]
    lines += [asyncio.run(compared(subscribers, options.rounds)) for subscribers in options.scale]
    print("\n".join(lines))
    if options.write:
        write("rates", lines)


if __name__ == "__main__":
    main()
