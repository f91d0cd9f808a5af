"""What a node counts: how late its loop was, by the limits of the histogram, and numbers by their key."""

import msgspec
import pytest

from freshet.observe.counts import LAGS, Counts, Snapshot, add


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (LAGS[0], 0), (0.0011, 1), (0.3, 7), (LAGS[-1], len(LAGS) - 1), (60.0, len(LAGS))]
)
def test_a_delay_counts_in_the_first_bucket_that_reaches_it(seconds: float, bucket: int) -> None:
    counts = Counts()
    counts.late(seconds)
    assert [index for index, number in enumerate(counts.lags) if number] == [bucket]
    assert counts.lag == seconds


def test_delays_add_up() -> None:
    counts = Counts()
    for seconds in (0.5, 0.25, 10):
        counts.late(seconds)
    assert (sum(counts.lags), counts.lag) == (3, 10.75)


def test_limits_of_delays_rise() -> None:
    assert list(LAGS) == sorted(set(LAGS))


def test_numbers_add_up_by_their_key() -> None:
    numbers: dict[str, int] = {}
    for key, number in (("a", 1), ("b", 5), ("a", 2)):
        add(numbers, key, number)
    add(numbers, "b")
    assert numbers == {"a": 3, "b": 6}


def test_two_nodes_share_no_numbers() -> None:
    one, two = Counts(), Counts()
    add(one.connected, "centrifuge")
    add(one.ended, 3000)
    one.late(1)
    assert (two.connected, two.ended, sum(two.lags)) == ({}, {}, 0)


def test_a_snapshot_is_the_same_behind_the_bus() -> None:
    counts = Counts(published=3, refusals={103: 2}, delivered={"centrifuge": 9})
    counts.late(0.2)
    snapshot = Snapshot(counts, "ready", {"centrifuge": 1}, 1, 2, 3, 4, 5.5, 6.5, 7)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(snapshot), type=Snapshot) == snapshot
