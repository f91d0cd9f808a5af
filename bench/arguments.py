"""The arguments of the benchmarks: what several of them take is declared here, once.

A benchmark names those that it takes with its own defaults, and adds what nobody else has:

    parser = benchmark_parser(__doc__, subscribers=300, rounds=5)
    parser.add_argument("--only", default="", help="rows with this in their name")
    options = parser.parse_args()

Every benchmark has --write.
"""

import argparse
from collections.abc import Callable
from typing import NamedTuple

RESULTS = "bench/RESULTS.md"


def numbers(text: str) -> list[int]:
    """`1,8` as whole numbers; none for an empty text. Raises ValueError for anything else."""
    return [int(part) for part in text.split(",") if part]


class SharedArgument(NamedTuple):
    """read: from the text on the command line to its value."""

    read: Callable[[str], object]
    help: str


SHARED = {
    "channels": SharedArgument(int, "channels that the clients share"),
    "clients": SharedArgument(int, "clients that connect"),
    "payload": SharedArgument(int, "bytes of data in a publication"),
    "rate": SharedArgument(float, "publications/s, of all channels together"),
    "rounds": SharedArgument(int, "how often everything is run"),
    "seconds": SharedArgument(float, "of one measurement"),
    "subscribers": SharedArgument(int, "clients that are subscribed to one channel"),
    "windows": SharedArgument(numbers, "publications in flight, measured one after the other"),
}


def benchmark_parser(description: str | None, *, results: str = RESULTS, **defaults: object) -> argparse.ArgumentParser:
    """A parser with --write and the shared arguments that are named, each with the default that it is given here.

    description: the docstring of the benchmark. results: the file that --write changes, as the help names it.

    Raises ValueError, with the list of those that there are, for an argument that is not shared.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        if name not in SHARED:
            raise ValueError(f"{name!r} is no shared argument: {', '.join(SHARED)}")
        shared = SHARED[name]
        parser.add_argument(
            f"--{name}", type=shared.read, default=default, help=f"{shared.help} (default: {_written(default)})"
        )
    parser.add_argument("--write", action="store_true", help=f"write the tables to {results}")
    return parser


def _written(value: object) -> str:
    """As one writes it on the command line."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
