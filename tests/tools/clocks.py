"""A clock that a test turns, and somebody sets."""

from freshet.testing import ManualClock


class SetClock(ManualClock):
    """ahead: seconds by which the wall clock was set since: that does not change how time goes by."""

    __slots__ = ("ahead",)

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def wall(self) -> float:
        return self.now + self.ahead
