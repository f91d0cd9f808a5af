"""The AI SDK's own chat against the door that is made for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.cases import Cases, cases
from tests.tools.serving import Server, serving

APP = "tests.runs.chat_app:live"
SCENARIOS = ["answers", "structure", "resumes", "stops", "fails", "nothing", "approves", "approves all", "branches"]


@pytest.fixture(scope="module", params=["1", "2"], ids=["one worker", "two workers"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(APP, "--workers", request.param) as server:
        yield server


@pytest.fixture(scope="module")
def play(node: Path) -> Iterator[Cases]:
    with cases(node, "aisdk.mjs") as play:
        yield play


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("transport", ["http", "websocket"])
def test_a_chat_of_the_ai_sdk(server: Server, play: Cases, transport: str, scenario: str) -> None:
    play(server.http(""), transport, scenario, within=30)
