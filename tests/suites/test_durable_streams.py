"""The public suite of Durable Streams. It skips 6 of its 338 tests: subscriptions by webhooks, which there are not."""

import os
from pathlib import Path
from unittest import mock

import pytest

from tests.suites.running import ENGINES, on_engine, run
from tests.tools.patience import SCALE
from tests.tools.serving import UNLIMITED

PASSED = 332
# Each takes a minute or more: the endpoint is tested on every engine in tests/endpoints, this suite by `make suites`.
ON = ENGINES if os.environ.get("TEST_SUITES") == "all" else ("memory",)
RULES = """
origins = ["*"]
[[channels]]
match = "*"
history = { size = 2000, ttl = 3600 }
publish = "client"
manage = "client"
[limits]
message_size = 1048576
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ON)
def test_the_suite_of_durable_streams_passes(engine: str, node: Path, tmp_path: Path) -> None:
    config = tmp_path / "freshet.toml"
    config.write_text(RULES + UNLIMITED)
    with on_engine(engine, tmp_path, "--config", str(config), "--dev") as server:
        limit = f"--testTimeout={round(30_000 * SCALE)}"
        command = ["node_modules/.bin/vitest", "run", "durable_suite.test.mjs", limit, "--reporter=dot"]
        with mock.patch.dict(os.environ, {"FRESHET_URL": server.http("").rstrip("/")}):
            outcome = run(command, node, 200)
    assert outcome.code == 0, outcome.output[-20_000:]
    assert outcome.number(r"Tests +(\d+) passed") == PASSED, outcome.output[-2000:]
