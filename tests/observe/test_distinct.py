"""Who is on several nodes counts once, as far as that can be known cheaply."""

import pytest

from freshet.observe.distinct import KEPT, counted, hashed, merged


def test_who_is_in_several_samples_counts_once() -> None:
    here, there = hashed(["alice", "bob", "carol"]), hashed(["carol", "alice", "dave"])
    assert counted(merged([here, there])) == (4, True)
    assert counted(merged([])) == (0, True)


def test_a_sample_of_portions_is_that_of_the_whole() -> None:
    names = [f"user {number}" for number in range(5000)]
    portions = [hashed(names[start : start + 700]) for start in range(0, 5000, 700)]
    assert merged(portions) == hashed(names)
    assert len(hashed(names)) == KEPT


@pytest.mark.parametrize("many", [2_000, 50_000])
def test_of_many_the_number_is_about_right_and_said_to_be_an_estimate(many: int) -> None:
    names = [f"user {number}" for number in range(many)]
    number, exact = counted(merged([hashed(names[: many * 2 // 3]), hashed(names[many // 3 :])]))
    assert not exact
    assert abs(number - many) < many / 8
