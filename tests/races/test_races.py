"""Each hook and each call of the engine is held, at each wait of each command, while each other operation happens.

Afterwards hub, registry, presence and engine agree with one another, and with what the clients were told. The gates are
found by passing them: what is held is repeated with the first, the second, and so on, until there are no more.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from tests.races.world import DIALECTS, HELD, OPERATIONS, NoFailures, fail, race

MOST = 60  # gates of one command; more are a loop that has no end


async def each_gate(run: Callable[[int], Awaitable[str]]) -> list[str]:
    """What is wrong at the first gate where something is; nothing."""
    passed: list[str] = []
    while len(passed) < MOST:
        try:
            with NoFailures() as log:
                gate = await run(len(passed))
            assert log.failures == []
        except Exception as error:  # whatever it is, the place is of interest
            return [f"at gate {len(passed)} behind {passed}: {error!r}"]
        if not gate:
            return []
        passed.append(gate)
    return [f"there is no end of gates: {passed}"]


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_all_agree_whatever_happens_meanwhile(dialect: str, held: str) -> None:
    wrong = {operation: await each_gate(partial(race, dialect, held, operation)) for operation in OPERATIONS}
    assert {operation: faults for operation, faults in wrong.items() if faults} == {}


@pytest.mark.parametrize("failing", HELD)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_all_agree_wherever_the_engine_or_a_hook_fails(dialect: str, failing: str) -> None:
    assert await each_gate(partial(fail, dialect, failing)) == []
