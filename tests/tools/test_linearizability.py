"""The checker of counters finds what is wrong, and nothing else."""

import random

from tests.tools.linearizability import Increment, violations


def ok(call: float, returned: float, value: int | None) -> Increment:
    return Increment(call, returned, "ok", value)


def test_operations_that_overlap_may_come_in_either_order() -> None:
    assert not list(violations([ok(0, 10, 2), ok(1, 9, 1), ok(10, 11, 3)], 3))


def test_an_acknowledged_operation_that_left_nothing_is_found() -> None:
    assert list(violations([ok(0, 1, 1), ok(2, 3, 1)], 1))
    assert list(violations([ok(0, 1, 1), ok(2, 3, None)], 1))
    assert list(violations([ok(0, 1, 2)], 1))


def test_an_operation_that_was_done_twice_is_found() -> None:
    assert list(violations([ok(0, 1, 1), ok(2, 3, 3)], 3))
    assert list(violations([ok(0, 1, 1)], 2))
    assert list(violations([ok(0, 1, 1), Increment(0, 1, "refused")], 2))


def test_an_order_that_time_forbids_is_found() -> None:
    assert list(violations([ok(0, 1, 2), ok(2, 3, 1)], 2))


def test_an_operation_of_which_nobody_knows_may_have_been_done_or_not_and_late() -> None:
    unknown = Increment(0, 1, "unknown")
    assert not list(violations([ok(5, 6, 1), unknown], 1))
    assert not list(violations([ok(5, 6, 1), ok(7, 8, 3), unknown], 3))
    assert not list(violations([ok(5, 6, 1), Increment(0, 1, "unknown", 2)], 2))


def test_a_counter_that_works_is_never_blamed_and_one_that_loses_an_update_always() -> None:
    chance = random.Random(7)
    for _ in range(50):
        moments = sorted(chance.random() for _ in range(200))
        history = [ok(at - chance.random() / 50, at + chance.random() / 50, n) for n, at in enumerate(moments, 1)]
        assert not list(violations(history, 200))
        lost = chance.randrange(1, 200)
        wrong = [ok(it.call, it.returned, it.value - ((it.value or 0) > lost)) for it in history if it.value]
        assert list(violations(wrong, 199))
