"""The AI SDK's own chat against the door that is made for it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.need import require
from tests.tools.patience import seconds
from tests.tools.serving import Server, serving

APP = "tests.runs.chat_app:live"
SCENARIOS = ["answers", "structure", "resumes", "stops", "fails", "nothing", "approves", "approves all", "branches"]


@pytest.fixture(scope="module", params=["1", "2"], ids=["one worker", "two workers"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(APP, "--workers", request.param) as server:
        yield server


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("transport", ["http", "websocket"])
def test_a_chat_of_the_ai_sdk(server: Server, node: Path, transport: str, scenario: str) -> None:
    done = subprocess.run(
        [require("node"), "aisdk.mjs", server.http(""), transport, scenario],
        cwd=node,
        capture_output=True,
        text=True,
        timeout=seconds(30),
        check=False,
    )
    assert done.returncode == 0, done.stderr
