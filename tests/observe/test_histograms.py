"""Histograms: buckets, percentiles, and what lies between two moments."""

import math

import msgspec
import pytest

from freshet.observe.histograms import LONGEST, SECONDS, SIZES, Distribution, Histogram


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (SECONDS[0], 0), (0.0011, 1), (0.3, 8), (SECONDS[-1], len(SECONDS) - 1), (60.0, len(SECONDS))],
)
def test_a_time_counts_in_the_first_bucket_that_reaches_it(seconds: float, bucket: int) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    assert [index for index, number in enumerate(histogram.counts) if number] == [bucket]
    assert histogram.sum == seconds


def test_times_add_up() -> None:
    histogram = Histogram()
    for seconds, number in ((0.5, 1), (0.25, 1), (10, 2)):
        histogram.observe(seconds, number)
    assert (histogram.read().count, histogram.sum, histogram.reached()[-1]) == (4, 20.75, 4)


@pytest.mark.parametrize("bounds", [SECONDS, SIZES], ids=["seconds", "sizes"])
def test_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))


def test_times_have_buckets_from_a_millisecond_to_five_seconds() -> None:
    assert (SECONDS[0], SECONDS[-1]) == (0.001, 5.0)


@pytest.mark.parametrize(
    ("at", "counts_as"),
    [(99.5, 0.5), (101.0, 0.0), (-1e300, LONGEST), (math.nan, 0.0), (math.inf, 0.0), (-math.inf, LONGEST)],
    ids=["before", "ahead", "ages ago", "no number", "never", "always"],
)
def test_whatever_the_clock_of_another_machine_says_the_sum_stays_a_number(at: float, counts_as: float) -> None:
    histogram = Histogram()
    histogram.observe_since(at, 100.0)
    assert (histogram.sum, histogram.read().count) == (counts_as, 1)


def test_a_percentile_is_within_the_bucket_where_it_lies() -> None:
    histogram = Histogram()
    histogram.observe(0.0005, 94)
    histogram.observe(0.03, 5)
    histogram.observe(0.7)
    read = histogram.read()
    assert 0 < read.percentile(0.5) <= 0.001
    assert 0.025 < read.percentile(0.95) <= 0.05
    assert 0.5 < read.percentile(1) <= 1
    assert read.percentile(0) >= 0
    assert read.mean == pytest.approx((94 * 0.0005 + 5 * 0.03 + 0.7) / 100)


def test_what_is_above_all_bounds_counts_as_the_highest() -> None:
    histogram = Histogram()
    histogram.observe(100)
    assert histogram.read().percentile(0.5) == SECONDS[-1]


def test_of_nothing_every_percentile_is_nothing() -> None:
    for nothing in (Distribution(), Histogram().read()):
        assert (nothing.count, nothing.mean, nothing.percentile(0.99)) == (0, 0.0, 0.0)


def test_what_came_behind_an_earlier_moment_is_the_difference() -> None:
    histogram = Histogram()
    histogram.observe(0.7, 100)
    before = histogram.read()
    histogram.observe(0.004)
    later = histogram.read().since(before)
    assert (later.count, later.sum) == (1, pytest.approx(0.004))
    assert later.percentile(0.99) <= 0.005
    assert histogram.read().since(Distribution()) == histogram.read()


def test_those_of_several_nodes_add_up() -> None:
    one, two = Histogram(), Histogram()
    one.observe(0.004)
    two.observe(2, 3)
    both = one.read() + two.read()
    assert (both.count, both.sum) == (4, pytest.approx(6.004))
    assert both + Distribution() == Distribution() + both == both
    with pytest.raises(TypeError):
        both + 1  # type: ignore[operator]


@pytest.mark.parametrize("sizes", [False, True])
def test_it_is_the_same_behind_the_bus(sizes: bool) -> None:
    histogram = Histogram(sizes=sizes)
    histogram.observe(4, 2)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(histogram), type=Histogram) == histogram
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(histogram.read()), type=Distribution) == histogram.read()


def test_a_reading_does_not_change() -> None:
    histogram = Histogram()
    read = histogram.read()
    histogram.observe(1)
    assert read.count == 0
