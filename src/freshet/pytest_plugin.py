"""The fixtures that pytest finds once Freshet is installed."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from freshet.testing import Clock


@pytest.fixture
def freshet_clock() -> "Clock":
    """A clock for `Freshet(clock=...)` that stands still until the test turns it; see `freshet.testing.Clock`."""
    from freshet.testing import Clock  # noqa: PLC0415 - so that tests without it do not import Freshet

    return Clock()
