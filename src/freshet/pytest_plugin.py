"""The fixtures that pytest finds once Freshet is installed."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from freshet.testing import ManualClock


@pytest.fixture
def freshet_clock() -> "ManualClock":
    """A clock for `Freshet(clock=...)` that stands still until the test turns it; see `freshet.testing.ManualClock`."""
    from freshet.testing import ManualClock  # noqa: PLC0415 - so that tests without it do not import Freshet

    return ManualClock()
