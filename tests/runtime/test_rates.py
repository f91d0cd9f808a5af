"""Token buckets: what they let through at once, and in the long run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.runtime.rates import PART, PAUSES, SMALLEST, Buckets, Meter, Rate, ReadingPace, SharedBuckets


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


# ------------------------------------------------------------------------------------------------- of several processes


def exchange(nodes: list[SharedBuckets], now: float) -> None:
    """Each hears of what the others let through."""
    for node in nodes:
        reports, node.reports = node.reports, {}
        for other in nodes:
            for key, cost in reports.items():
                if other is not node:
                    other.charge(key, now, cost)


def test_what_one_lets_through_the_others_are_charged_for() -> None:
    one, two = (SharedBuckets(Rate(1, 10), lambda: None) for _ in range(2))
    assert [one.take("alice", 100.0) for _ in range(10)] == [0] * 10
    exchange([one, two], 100.0)
    assert two.take("alice", 100.0) == pytest.approx(1)
    assert two.take("bob", 100.0) == 0


def test_one_that_hears_nothing_lets_through_the_rate_and_no_more() -> None:
    alone = SharedBuckets(Rate(1, 10), lambda: None)
    assert sum(not alone.take("alice", 100.0) for _ in range(50)) == 10
    assert sum(not alone.take("alice", 105.0) for _ in range(50)) == 5


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 0.3), st.booleans()), min_size=1, max_size=300))
def test_in_the_long_run_all_together_let_through_the_rate(steps: list[tuple[int, float, bool]]) -> None:
    rate = Rate(4, 10)
    nodes = [SharedBuckets(rate, lambda: None) for _ in range(3)]
    now = began = 1000.0
    passed = unheard = most_unheard = 0
    for number, pause, heard in steps:
        now += pause
        if heard:
            exchange(nodes, now)
            unheard = 0
        if not nodes[number].take("alice", now):
            passed += 1
            unheard += 1
        most_unheard = max(most_unheard, unheard)
    assert passed <= 10 + 4 * (now - began) + most_unheard + 1e-6


def test_what_is_too_little_to_be_told_is_told_when_it_is_more() -> None:
    calls: list[None] = []
    buckets = SharedBuckets(Rate(1, 10 * PART), lambda: calls.append(None))
    for _ in range(9):
        buckets.take("alice", 100.0)
    assert (buckets.reports, calls) == ({}, [])
    buckets.take("alice", 100.0)
    assert (buckets.reports, calls) == ({"alice": 10}, [None])


def test_many_that_are_charged_for_or_told_nothing_of_do_not_stay() -> None:
    buckets = SharedBuckets(Rate(1, 2 * PART), lambda: None)
    for key in range(10 * SMALLEST):
        buckets.take(f"taken {key}", 200.0 + key)
        buckets.charge(f"charged {key}", 200.0 + key, 1)
    assert len(buckets) <= 2 * SMALLEST
    assert len(buckets._unreported) <= 2 * SMALLEST
