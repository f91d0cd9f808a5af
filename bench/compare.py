"""What a change costs, or saves: this version and another one, interleaved.

Both servers run at the same time, and are measured one after the other, again and again: the machine's noise falls on
both. CPU is what the kernel accounts to each: per delivery of a fan-out, per delivery to a single subscriber, and per
client that connects with a token and subscribes.

    git worktree add /tmp/before main~10
    python -m bench.compare --other /tmp/before/src
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.arguments import benchmark_parser
from bench.beds import HERE, MICROSECONDS, Bed, bed, build, raise_open_files
from bench.pairs import pair_of

CONNECTS = 300  # in a round
Both = tuple[Bed, Bed]


@contextmanager
def both(options: argparse.Namespace, work: Path) -> Iterator[Both]:
    """The other version, and this one."""
    other, this = ({"PYTHONPATH": str(source)} for source in (options.other, HERE.parent / "src"))
    with bed("freshet", work, env=other) as before, bed("freshet", work, env=this) as after:
        yield before, after


def compared(what: str, beds: Both, rounds: int, cost: Callable[[Bed], float]) -> str:
    """cost: microseconds, of one round."""
    pair = pair_of([(cost(beds[0]), cost(beds[1])) for _ in range(rounds)])
    return f"{what}: {pair.before:.3f} -> {pair.after:.3f} us of CPU, median of the ratios {pair.ratio:.3f}"


def lines(options: argparse.Namespace, work: Path) -> Iterator[str]:
    with both(options, work) as beds:
        for subscribers in (1, options.subscribers):
            for each in beds:
                each.do(f"connect {subscribers}")
            for window in options.windows if subscribers > 1 else [1]:
                command = f"closed {window} {options.payload} {options.seconds}"
                what = f"{subscribers} subscribers, {window} in flight, a delivery"
                yield compared(what, beds, options.rounds, lambda it, command=command: it.round(command).total)
        made = dict.fromkeys(beds, options.subscribers)

        def connect(it: Bed) -> float:
            made[it] += CONNECTS
            before = it.server.cpu()
            it.do(f"connect {made[it]}")
            used = it.server.cpu().since(before)
            return (used.user + used.system) / CONNECTS * MICROSECONDS

        yield compared("a connect with a token and a subscription", beds, options.rounds, connect)


def main() -> None:
    parser = benchmark_parser(__doc__, subscribers=1000, payload=128, windows=[1, 8], seconds=1, rounds=15)
    parser.add_argument("--other", type=Path, required=True, help="the `src` of the other version")
    options = parser.parse_args()
    raise_open_files()
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        for line in lines(options, Path(folder)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
