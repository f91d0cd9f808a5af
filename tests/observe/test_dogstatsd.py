"""Lines of DogStatsD: differences of counters, all gauges, distributions, and how many fit a datagram."""

import re
from collections.abc import Iterator

import msgspec
import pytest

from freshet.observe.counts import Counts, Snapshot, add
from freshet.observe.dogstatsd import DATAGRAM, datagrams, lines, nothing

WAY = ("centrifuge", "websocket")
LINE = re.compile(r"freshet\.([a-z_]+):(-?[0-9.e+-]+)\|([cgd])(?:\|@([0-9.e-]+))?(?:\|#([a-z_]+:[^,|]+(?:,[^,|]+)*))?")


def parsed(it: Iterator[bytes]) -> dict[str, tuple[str, float]]:
    """Kind and value by name and tags; of distributions, how many values."""
    found: dict[str, tuple[str, float]] = {}
    for line in it:
        match = LINE.fullmatch(line.decode())
        assert match is not None, line
        name, value, kind, rate, tags = match.groups()
        key = f"{name} {tags}" if tags else name
        number = int(1 / float(rate)) if rate else 1
        before = found[key][1] if kind == "d" and key in found else 0.0
        found[key] = (kind, before + number if kind == "d" else float(value))
    return found


def copy(it: Snapshot) -> Snapshot:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(it), type=Snapshot)


def test_a_counter_is_sent_as_what_came_since_the_last_time() -> None:
    it = Snapshot(Counts(published=5), "ready", {}, 0, 0, 0, 0, 0.0)
    add(it.counts.connected, WAY, 3)
    first = parsed(lines(nothing(), it))
    assert first["published"] == ("c", 5)
    assert first["connected dialect:centrifuge,transport:websocket"] == ("c", 3)
    before = copy(it)
    it.counts.published += 2
    second = parsed(lines(before, it))
    assert second["published"] == ("c", 2)
    assert not any(name.startswith("connected") for name in second)


def test_a_gauge_is_sent_as_it_is_and_goes_back_to_nothing() -> None:
    it = Snapshot(Counts(), "ready", {WAY: 4}, 2, 0, 0, 0, 0.0)
    first = parsed(lines(nothing(), it))
    assert (first["users"], first["ready"]) == (("g", 2), ("g", 1))
    name = "clients dialect:centrifuge,transport:websocket"
    assert first[name] == ("g", 4)
    before = copy(it)
    it.clients = {}
    assert parsed(lines(before, it))[name] == ("g", 0)


@pytest.mark.parametrize("number", [1, 2, 3, 7, 49, 98, 103, 1_000_003])
def test_a_distribution_has_as_many_values_as_there_were(number: int) -> None:
    it = Snapshot(Counts(), "ready", {}, 0, 0, 0, 0, 0.0)
    it.counts.here.observe(0.03, number)
    it.counts.here.observe(60)
    name = "delivery_latency_seconds accepted:here"
    assert parsed(lines(nothing(), it))[name] == ("d", number + 1)
    written = [line.decode() for line in lines(nothing(), it) if b"latency" in line]
    assert [float(LINE.fullmatch(each).group(2)) for each in written] == [0.0375, 5]  # type: ignore[union-attr]
    before = copy(it)
    it.counts.here.observe(0.002, 2)
    assert parsed(lines(before, it))[name] == ("d", 2)


def test_every_line_has_the_tags() -> None:
    it = Snapshot(Counts(published=1), "ready", {WAY: 1}, 0, 0, 0, 0, 0.0)
    it.counts.ran("publish", 0.1)
    for line in lines(nothing(), it, ["env:test", "worker:3"]):
        assert line.endswith(b"env:test,worker:3"), line


def test_a_datagram_holds_what_fits_and_every_line_is_in_one() -> None:
    given = [b"x" * size for size in (700, 700, 30, 31, 1400, 1432, 5)]
    made = list(datagrams(given))
    assert all(len(datagram) <= DATAGRAM for datagram in made)
    assert b"\n".join(made).split(b"\n") == given
    assert [len(datagram) for datagram in made] == [1432, 1432, 1432, 5]


def test_a_line_that_fits_in_none_is_left_out() -> None:
    assert list(datagrams([b"a", b"x" * (DATAGRAM + 1), b"b"])) == [b"a\nb"]
    assert list(datagrams([])) == []
