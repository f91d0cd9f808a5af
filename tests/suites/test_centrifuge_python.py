"""The tests of PyPI `centrifuge-python` that want a server, as its source package has them."""

import sys
from pathlib import Path

import pytest

from tests.suites.running import ENGINES, copied, for_centrifuge, run
from tests.tools.need import require_suite

# It goes on as if the first client were subscribed, and it is as a rule. We let it wait for that.
TOO_EARLY = """        await sub1.subscribe()
        await client2.connect()
        await sub2.subscribe()

        # Now disconnect client1"""
IN_TIME = TOO_EARLY.replace("await client2", "await sub1.ready()\n        await client2")


def prepared(tests: Path) -> None:
    text = tests.read_text()
    assert text.count(TOO_EARLY) == 1
    tests.write_text(text.replace(TOO_EARLY, IN_TIME))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_suite_of_the_python_client_passes(engine: str, tmp_path: Path) -> None:
    suite = require_suite("centrifuge-python")
    with for_centrifuge(engine, tmp_path) as server:
        copy = copied(suite, tmp_path, server, 8000)
        prepared(copy / "tests" / "test_client.py")
        outcome = run([sys.executable, "-m", "unittest", "tests.test_client"], copy, 60)
    assert outcome.code == 0, outcome.output
    assert outcome.number(r"Ran (\d+) tests") >= 60, outcome.output
