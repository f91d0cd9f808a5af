"""Each hook and each call of the engine is held, at each wait of each command, while each other operation happens.

Afterwards hub, registry, presence and engine agree with one another, and with what the clients were told. The gates are
found by passing them: what is held is repeated with the first, the second, and so on, until there are no more.
"""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import pytest

from tests.races.world import DIALECTS, HELD, OPERATIONS, NoFailures, fail, race

MOST = 60  # gates of one command; more are a loop that has no end


async def each_gate(run: Callable[[int], Awaitable[str]], known: list[str] | None = None) -> list[str]:
    """What is wrong at the first gate where something is; nothing.

    known: all gates that were found before, so that where these end need not be found again; empty, it is filled.
    """
    passed: list[str] = []
    while not known or passed != known:
        if len(passed) == MOST:
            return [f"there is no end of gates: {passed}"]
        try:
            with NoFailures() as log:
                gate = await run(len(passed))
            assert log.failures == []
        except Exception as error:  # whatever it is, the place is of interest
            return [f"at gate {len(passed)} behind {passed}: {error!r}"]
        if not gate:
            break
        passed.append(gate)
    if known == []:
        known += passed
    return []


async def each_operation(operations: Iterable[str], run: Callable[[str, int], Awaitable[str]]) -> dict[str, list[str]]:
    """What is wrong at the first gate where something is, by operation: of those with which something is.

    An operation begins when the gate holds. So the gates are the same with each, but for the order in which several
    clients are drained, and where they end is found with one.
    """
    gates: list[str] = []
    wrong: dict[str, list[str]] = {}
    for operation in operations:
        if faults := await each_gate(partial(run, operation), gates):
            wrong[operation] = faults
        elif not gates:
            break  # nothing is held, so that no operation ever begins
    return wrong


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_all_agree_whatever_happens_meanwhile(dialect: str, held: str) -> None:
    assert await each_operation(OPERATIONS, partial(race, dialect, held)) == {}


@pytest.mark.parametrize("failing", HELD)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_all_agree_wherever_the_engine_or_a_hook_fails(dialect: str, failing: str) -> None:
    assert await each_gate(partial(fail, dialect, failing)) == []
