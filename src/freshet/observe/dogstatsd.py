"""What happened between two snapshots, as the lines of DogStatsD, and as many of them in a datagram as fit.

The protocol: docs.datadoghq.com/developers/dogstatsd. Counters are differences, times are distributions:
each bucket is one value, its middle, with the sample rate that says how many there were.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import nextafter
from typing import Any

from freshet.observe.counts import Counts, Snapshot
from freshet.observe.exposition import COUNTERS, GAUGES, HISTOGRAMS, Shown, labelled
from freshet.observe.histograms import Distribution

DATAGRAM = 1432  # bytes: what an Ethernet frame carries over IPv6, as Datadog's own clients have it

Values = dict[tuple[str, ...], Any]


def lines(before: Snapshot, now: Snapshot, tags: Sequence[str] = ()) -> Iterator[bytes]:
    """before: a copy of an earlier one; for all since the node began, one in which nothing has happened."""
    for name, shown in GAUGES.items():
        values = _values(shown, now)
        values |= {labels: 0 for labels in _values(shown, before) if labels not in values}  # whom it had, and has not
        for labels, value in values.items():
            yield _line(name, f"{float(value):g}|g", shown, labels, tags)
    for name, shown in COUNTERS.items():
        earlier = _values(shown, before)
        for labels, value in _values(shown, now).items():
            if (more := value - earlier.get(labels, 0)) > 0:
                yield _line(name, f"{more:g}" if type(more) is float else f"{more}", shown, labels, tags, "|c")
    for name, shown in HISTOGRAMS.items():
        histograms = _values(shown, before)
        for labels, histogram in _values(shown, now).items():
            earlier_one = histograms.get(labels)
            after = histogram.read().since(earlier_one.read() if earlier_one is not None else Distribution())
            for value, number in _middles(after):
                yield _line(name, f"{value:g}|d{_rate(number)}", shown, labels, tags)


def datagrams(lines: Iterable[bytes], most: int = DATAGRAM) -> Iterator[bytes]:
    """Several lines in each. A line that is longer by itself, as its tags are, is left out."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        if len(line) > most:
            continue
        if held and size + 1 + len(line) > most:
            yield b"\n".join(held)
            held, size = [], 0
        size += len(line) + (1 if held else 0)
        held.append(line)
    if held:
        yield b"\n".join(held)


def _values(shown: Shown, it: Snapshot) -> Values:
    return {tuple(labels): value for labels, value in labelled(shown, it)}


def _line(name: str, value: str, shown: Shown, labels: Iterable[str], tags: Sequence[str], kind: str = "") -> bytes:
    all_tags = ",".join([*(f"{name}:{label}" for name, label in zip(shown.labels, labels, strict=True)), *tags])
    return f"freshet.{name}:{value}{kind}{'|#' if all_tags else ''}{all_tags}".encode()


def _middles(it: Distribution) -> Iterator[tuple[float, int]]:
    below = 0.0
    for bound, number in zip([*it.bounds, it.bounds[-1]], it.counts, strict=False):
        if number:
            yield (below + bound) / 2, number
        below = bound


def _rate(number: int) -> str:
    """Of one value that stands for so many. The agent counts the whole part of its inverse."""
    if number == 1:
        return ""
    rate = 1 / number
    while int(1 / rate) < number:
        rate = nextafter(rate, 0)
    return f"|@{rate!r}"


def nothing() -> Snapshot:
    """Before anything has happened."""
    return Snapshot(Counts(), "starting", {}, 0, 0, 0, 0, 0.0)
