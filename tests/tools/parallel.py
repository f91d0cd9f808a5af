"""How the tests are shared among the workers of pytest-xdist: `pytest -n auto`, as `make test` runs them.

The tests of a file stay together, because they share servers that start once for the file. Where each test has servers
of its own, and takes seconds, its tests are shared out one by one: they fill what the last long file would leave idle.
What draws pages is one unit, the first: several browsers at a time leave no core for anything else.
"""

import os
from collections import Counter
from collections.abc import Sequence

from xdist.scheduler import LoadScopeScheduling

APART = ("tests/chaos/test_short.py", "tests/docs/test_pages.py")  # files whose tests share nothing
BROWSER = (  # what draws pages, which takes a core by itself: one page at a time, and all in one Chromium
    "tests/demos/",
    "tests/docs/test_site.py",
    "tests/docs/test_chat.py",
    "tests/examples/",
    "tests/ops/admin/test_nodes.py",
    "tests/ops/admin/test_page.py",
    "tests/ops/admin/test_views.py",
    "tests/ops/admin/test_welcome.py",
)

LONG = (  # what takes about half a minute or more, and had better not begin last
    "tests/ops/test_figures_late.py",
    "tests/cli/test_init.py",
    "tests/ops/test_figures.py",
    "tests/suites/test_durable_streams.py",
    "tests/serving/test_supervisor.py",
    "tests/transports/test_tls.py",
    "tests/cli/test_bench.py",
    "tests/autobahn/test_autobahn.py",
    "tests/rooms/test_state_processes.py",
    "tests/rooms/test_processes.py",
    "tests/rooms/test_races.py",
    "tests/endpoints/socketio/test_proxy.py",
    "tests/endpoints/gateway/test_survivors.py",
    "tests/stores/test_postgres.py",
    "tests/engines/redis/test_nodes.py",
    "tests/engines/nats/test_nodes.py",
    "tests/deploy/test_monitoring.py",
    "tests/kits/commerce/test_oversell.py",
    "tests/reconnect/test_javascript.py",
    "tests/hosts/test_uvicorn.py",
    "tests/hosts/test_uvicorn_workers.py",
    "tests/hosts/test_hypercorn.py",
    "tests/hosts/test_hypercorn_workers.py",
    "tests/hosts/test_freshet.py",
    "tests/hosts/test_gunicorn.py",
    "tests/hosts/test_granian.py",
    "tests/hosts/test_daphne.py",
    "tests/cli/test_publish_and_tail.py",
    "tests/runtime/test_admission.py",
    "tests/chaos/test_short.py",
    "tests/promises/test_recovery_js.py",
    "tests/transports/test_memory.py",
)


def workers(cores: int) -> int:
    """How many there are with `-n auto`: more than cores, because tests wait for processes and timers, too."""
    return max(2, cores * 5 // 2)


def chosen_workers() -> int | None:
    """For this machine; None if PYTEST_XDIST_AUTO_NUM_WORKERS says it, which xdist reads itself."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else workers(os.cpu_count() or 1)


def unit_of(test: str) -> str:
    """What a test, by its id, has to run together with: its file, nothing else, or all that needs a browser."""
    file = test.partition("::")[0]
    if file.startswith(BROWSER):
        return "browser"
    return test if file in APART else file


def longest_first(tests: Sequence[str]) -> dict[str, tuple[int, int]]:
    """What to sort tests by, that their files come in the order in which they had better begin."""
    place = {file: number for number, file in enumerate(LONG)}
    many = Counter(test.partition("::")[0] for test in tests)

    def begins(file: str) -> int:
        return -1 if file.startswith(BROWSER) else place.get(file, len(LONG))

    return {test: (begins(file), -many[file]) for test in tests if (file := test.partition("::")[0])}


class UnitScheduling(LoadScopeScheduling):
    """Gives each worker whole units, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
