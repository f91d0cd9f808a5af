"""How the tests are shared among the workers of pytest-xdist: `pytest -n auto`, as `make test` runs them.

The tests of a file stay together, because they share servers that start once for the file. Where each test has servers
of its own, and takes seconds, its tests are shared out one by one: they fill what the last long file would leave idle.
"""

import os

from xdist.scheduler import LoadScopeScheduling

APART = ("tests/chaos/test_short.py", "tests/docs/test_pages.py")  # files whose tests share nothing


def workers(cores: int) -> int:
    """How many there are with `-n auto`: more than cores, because tests wait for processes and timers, too."""
    return max(2, cores * 2)


def chosen_workers() -> int | None:
    """For this machine; None if PYTEST_XDIST_AUTO_NUM_WORKERS says it, which xdist reads itself."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else workers(os.cpu_count() or 1)


def unit_of(test: str) -> str:
    """What a test, by its id, has to run together with: its file, or nothing else."""
    file = test.partition("::")[0]
    return test if file in APART else file


class UnitScheduling(LoadScopeScheduling):
    """Gives each worker whole units, those with the most tests first."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
