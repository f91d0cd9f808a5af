"""The timing wheel: who is visited when, with a clock of its own."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.runtime.wheel import SLOTS, TICK, Wheel
from freshet.testing import ManualClock


class Visited:
    """A member that notes its visits and asks for the given delays, then for no more."""

    def __init__(self, *delays: float) -> None:
        self.slot = -1
        self.delays = list(delays)
        self.visits: list[float] = []

    def visit(self, now: float) -> float:
        self.visits.append(now)
        return self.delays.pop(0) if self.delays else 0


class Failing(Visited):
    def visit(self, now: float) -> float:
        raise RuntimeError("in a visit")


def wheel() -> tuple[Wheel, ManualClock]:
    clock = ManualClock(1000.0)
    return Wheel(clock), clock


def go(wheel: Wheel, clock: ManualClock, ticks: int) -> None:
    for _ in range(ticks):
        clock.now += TICK
        wheel.advance()


@given(st.floats(0, SLOTS - 2))
def test_a_member_is_visited_after_its_delay_and_at_most_a_tick_later(delay: float) -> None:
    turning, clock = wheel()
    member = Visited()
    turning.schedule(member, delay)
    go(turning, clock, SLOTS * 2)
    [visit] = member.visits
    assert delay <= visit - 1000 <= delay + TICK


@given(st.floats(SLOTS - 1, 1e9))
def test_a_delay_longer_than_the_wheel_is_visited_early_rather_than_never(delay: float) -> None:
    turning, clock = wheel()
    member = Visited()
    turning.schedule(member, delay)
    go(turning, clock, SLOTS)
    assert len(member.visits) == 1


def test_a_member_says_when_it_wants_the_next_visit_and_when_no_more() -> None:
    turning, clock = wheel()
    member = Visited(5.5, 1.5)
    turning.schedule(member, 0.5)
    go(turning, clock, 200)
    assert member.visits == [1001.0, 1007.0, 1009.0]
    assert member.slot == -1


def test_only_the_latest_plan_counts() -> None:
    turning, clock = wheel()
    member = Visited()
    turning.schedule(member, 3)
    turning.schedule(member, 10.5)
    go(turning, clock, 100)
    assert member.visits == [1011.0]


def test_a_member_that_is_cancelled_is_not_visited_and_may_be_cancelled_again() -> None:
    turning, clock = wheel()
    member = Visited()
    turning.schedule(member, 3)
    turning.cancel(member)
    turning.cancel(member)
    go(turning, clock, 100)
    assert member.visits == []


def test_a_visit_may_cancel_another_that_is_due_in_the_same_tick() -> None:
    turning, clock = wheel()
    members: list[Visited] = []

    class Rival(Visited):
        def visit(self, now: float) -> float:
            for other in members:
                if other is not self:
                    turning.cancel(other)
            return super().visit(now)

    members += [Rival(), Rival(), Rival()]
    for member in members:
        turning.schedule(member, 0.5)
    go(turning, clock, 100)
    assert sum(len(member.visits) for member in members) == 1


def test_a_visit_may_put_off_another_that_is_due_in_the_same_tick() -> None:
    turning, clock = wheel()
    members: list[Visited] = []

    class Rival(Visited):
        def visit(self, now: float) -> float:
            for other in members:
                if other is not self and not self.visits and not other.visits:
                    turning.schedule(other, SLOTS * 2)
            return super().visit(now)

    members += [Rival(), Rival()]
    for member in members:
        turning.schedule(member, 0.5)
    go(turning, clock, SLOTS)
    assert sorted(member.visits for member in members) == [[1001.0], [1001.0 + SLOTS - 1]]


def test_a_visit_that_fails_is_logged_and_the_others_of_its_tick_are_visited(caplog: pytest.LogCaptureFixture) -> None:
    turning, clock = wheel()
    members = [Visited() for _ in range(5)]
    for member in [*members, *(Failing() for _ in range(5))]:
        turning.schedule(member, 0.5)
    with caplog.at_level(logging.ERROR, "freshet.wheel"):
        go(turning, clock, 100)
    assert [len(member.visits) for member in members] == [1] * 5
    assert caplog.text.count("RuntimeError: in a visit") == 5


def test_ten_thousand_members_that_go_leave_nothing_in_the_wheel() -> None:
    turning, _clock = wheel()
    members = [Visited() for _ in range(10_000)]
    for index, member in enumerate(members):
        turning.schedule(member, index % 100)
    for member in members:
        turning.cancel(member)
    assert not any(turning._slots)


async def test_a_wheel_that_was_stopped_leaves_no_timer() -> None:
    turning, clock = wheel()
    turning.start()
    turning.stop()
    turning.stop()
    member = Visited()
    turning.schedule(member, 0)
    await clock.advance(10 * TICK)
    assert member.visits == []
    assert turning._timer is None


async def test_a_wheel_knows_that_the_process_stood_still_until_what_came_meanwhile_is_read() -> None:
    clock = ManualClock()
    turning = Wheel(clock, tick=1.0)
    assert not turning.stalled, "one that does not turn cannot be late"
    turning.start()
    await clock.advance(10)
    assert not turning.stalled
    clock.now += 3
    assert turning.stalled, "before its timer runs"
    await clock.advance(0)
    assert turning.stalled, "after it"
    await clock.advance(2)
    assert not turning.stalled
    turning.stop()
