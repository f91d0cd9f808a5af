"""Token buckets: what they let through at once, and in the long run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.runtime.rates import PAUSES, SMALLEST, Buckets, Meter, Rate, ReadingPace


def test_a_burst_passes_at_once_and_then_the_rate() -> None:
    meter, bucket = Meter(Rate(10, 3)), 0.0
    for _ in range(3):
        bucket = meter.take(bucket, 100.0)
        assert bucket > 0
    wait = -meter.take(bucket, 100.0)
    assert wait == pytest.approx(0.1)
    assert meter.take(bucket, 100.0 + wait + 1e-9) > 0
    assert meter.take(bucket, 100.0 + wait / 2) < 0


def test_what_was_refused_takes_nothing() -> None:
    meter = Meter(Rate(1, 1))
    bucket = meter.take(0.0, 100.0)
    for _ in range(1000):
        assert meter.take(bucket, 100.5) < 0
    assert meter.take(bucket, 101.0) > 0


def test_what_is_larger_than_the_bucket_passes_when_it_is_full_and_is_paid_for() -> None:
    meter = Meter(Rate(10, 20))
    bucket = meter.take(0.0, 100.0, 50)
    assert bucket > 0
    assert -meter.take(bucket, 101.0, 1) == pytest.approx(2.1)
    assert meter.take(bucket, 105.0, 50) > 0


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0.1, 5)), max_size=200))
def test_no_order_of_requests_gets_more_than_the_burst_and_the_rate(steps: list[tuple[float, float]]) -> None:
    meter, bucket, now, passed = Meter(Rate(4, 10)), 0.0, 1000.0, 0.0
    for pause, cost in steps:
        now += pause
        after = meter.take(bucket, now, cost)
        if after > 0:
            bucket, passed = after, passed + cost
        assert passed <= 10 + 4 * (now - 1000.0) + 1e-6


def test_each_key_has_a_bucket_of_its_own_and_full_ones_are_forgotten() -> None:
    buckets: Buckets[int] = Buckets(Rate(1, 2))
    assert [buckets.take(1, 100.0), buckets.take(1, 100.0), buckets.take(2, 100.0)] == [0, 0, 0]
    assert buckets.take(1, 100.0) == pytest.approx(1)
    for key in range(10 * SMALLEST):
        buckets.take(key, 200.0 + key)
    assert len(buckets) <= SMALLEST


def test_what_comes_faster_than_its_pace_waits_and_who_does_not_stop_is_known() -> None:
    pace = ReadingPace(Meter(Rate(10, 20)))
    assert [pace.wait(20, 100.0), pace.goes_on] == [0.0, False]
    assert pace.wait(10, 100.0) == pytest.approx(1.0)
    assert pace.wait(10, 101.0) == 0.0
    for _ in range(PAUSES):
        assert pace.wait(20, 101.0) > 0
    assert pace.goes_on
    assert [pace.wait(20, 200.0), pace.goes_on] == [0.0, False]  # it has been quiet since
