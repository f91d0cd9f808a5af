"""How often one visitor may do something, by a clock that the tests turn."""

from types import SimpleNamespace
from typing import Any

import pytest

from freshet import Refusal
from freshet.demos import pace
from freshet.demos.pace import Pace


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def client(id: str) -> Any:
    return SimpleNamespace(id=id)


def allowed(pace: Pace, id: str = "a", times: int = 100) -> int:
    """How many of so many attempts in a row are within the pace."""
    for done in range(times):
        try:
            pace.check(client(id))
        except Refusal:
            return done
    return times


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    clock = Clock()
    pace = Pace(rate=2, burst=5, clock=clock)
    assert allowed(pace) == 5
    clock.now += 0.5
    assert allowed(pace) == 1
    clock.now += 60
    assert allowed(pace) == 5


def test_one_client_does_not_slow_another() -> None:
    pace = Pace(rate=1, burst=2, clock=Clock())
    assert allowed(pace, "a") == 2
    assert allowed(pace, "b") == 2


def test_those_who_rest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "KEPT", 10)
    clock = Clock()
    limit = Pace(rate=1, burst=1, clock=clock)
    for number in range(100):
        limit.check(client(str(number)))
        clock.now += 0.5
    assert len(limit._due) <= 10
