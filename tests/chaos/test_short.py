"""Each fault once, with a small load: nothing is lost silently."""

from pathlib import Path

import pytest

from tests.chaos.apart import can_be_made
from tests.chaos.scenarios import SCENARIOS, Scenario, happen
from tests.chaos.world import Load
from tests.tools.need import missing

SMALL = Load(clients=40, channels=4, rate=40)


@pytest.mark.parametrize(
    "scenario", [it for it in SCENARIOS if it.short], ids=lambda it: f"{it.name}, {it.place.label}"
)
async def test_nothing_is_lost_silently(scenario: Scenario, tmp_path: Path) -> None:
    if scenario.place.apart and not can_be_made():
        missing("the right to make network namespaces")
    outcome = await happen(scenario, SMALL, tmp_path, seed=1)
    verdict = outcome.verdict
    assert verdict.is_clean, verdict
    assert verdict.expected > 50
    if scenario.keeps:
        assert verdict.notified == 0
        assert verdict.delivered == verdict.expected
    elif scenario.keeps is False:
        assert verdict.notified > 0
