"""The suites of the Engine.IO and Socket.IO protocols, which are in the repository of socket.io."""

from pathlib import Path

import pytest

from tests.suites.running import copied, on_engine, run
from tests.tools.need import require, require_suite

APP = "tests.endpoints.socketio.quick_app:app"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("engine", ["memory", "two workers"])
@pytest.mark.parametrize(
    ("suite", "tests"),
    [("engine.io-protocol/v4-test-suite", 25), ("socket.io-protocol/v5-test-suite", 32)],
    ids=["engine.io", "socket.io"],
)
def test_the_suite_of_the_protocol_passes(engine: str, suite: str, tests: int, tmp_path: Path) -> None:
    require("node")
    folder = require_suite("socket.io") / "docs" / suite
    with on_engine(engine, tmp_path, APP) as server:
        copy = copied(folder, tmp_path, server, 3000)
        outcome = run(["node_modules/.bin/mocha", "test-suite.js", "--exit"], copy, 60)
    assert outcome.code == 0, outcome.output
    assert outcome.number(r"(\d+) passing") >= tests, outcome.output
