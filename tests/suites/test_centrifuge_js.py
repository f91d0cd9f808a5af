"""The tests of npm `centrifuge` that want a server."""

from pathlib import Path

import pytest

from tests.suites.running import ENGINES, copied, for_centrifuge, run
from tests.tools.need import require, require_suite

FILES = ("src/centrifuge.test.ts", "src/centrifuge.protobuf.test.ts", "src/delta.test.ts", "src/recovery.test.ts")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_suite_of_the_javascript_client_passes(engine: str, tmp_path: Path) -> None:
    require("node")
    suite = require_suite("centrifuge-js")
    with for_centrifuge(engine, tmp_path) as server:
        copy = copied(suite, tmp_path, server, 8000)
        jest = ["node_modules/.bin/jest", "--runInBand", "--forceExit", *FILES]
        outcome = run(jest, copy, 120)
    assert outcome.code == 0, outcome.output
    assert outcome.number(r"Tests:.* (\d+) passed") >= 83, outcome.output


@pytest.mark.timeout(240)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_suite_of_maps_passes(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("node")
    suite = require_suite("centrifuge-js")
    monkeypatch.setenv("DEBOUNCE", "1")
    files = ["src/map.test.ts", "src/map.protobuf.test.ts", "src/debounce.test.ts"]
    with for_centrifuge(engine, tmp_path) as server:
        copy = copied(suite, tmp_path, server, 8000)
        jest = ["node_modules/.bin/jest", "--runInBand", "--forceExit"]
        outcome = run([*jest, *files], copy, 120)
    assert outcome.code == 0, outcome.output
    assert outcome.number(r"Tests:.* (\d+) passed") >= 24, outcome.output
