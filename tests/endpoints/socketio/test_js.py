"""Socket.IO by its official JavaScript client in Node, over each transport; the scenarios are in tests/node."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.cases import Cases, cases
from tests.tools.serving import Server, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("tests.endpoints.socketio.kept_app:live") as server:
        yield server


@pytest.fixture(scope="module")
def play(node: Path) -> Iterator[Cases]:
    with cases(node, "socketio.mjs") as play:
        yield play


@pytest.mark.parametrize("transports", ["polling", "websocket", "polling,websocket"])
@pytest.mark.parametrize(
    "scenario",
    [
        *("acknowledgements", "binary", "rooms", "channels", "refused", "disconnected", "heartbeats", "ordered"),
        *("recovered", "unrecovered", "halves", "late", "later", "numbers", "slashless"),
    ],
)
def test_the_javascript_client(server: Server, play: Cases, transports: str, scenario: str) -> None:
    play(server.http(""), transports, scenario)
