"""Socket.IO by its official JavaScript client in Node, over each transport; the scenarios are in tests/node."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.need import require
from tests.tools.patience import seconds
from tests.tools.serving import Server, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("tests.endpoints.socketio.kept_app:live") as server:
        yield server


@pytest.mark.parametrize("transports", ["polling", "websocket", "polling,websocket"])
@pytest.mark.parametrize(
    "scenario",
    [
        *("acknowledgements", "binary", "rooms", "channels", "refused", "disconnected", "heartbeats", "ordered"),
        *("recovered", "unrecovered", "halves", "late", "later", "numbers", "slashless"),
    ],
)
def test_the_javascript_client(server: Server, node: Path, transports: str, scenario: str) -> None:
    command = [require("node"), "socketio.mjs", server.http(""), transports, scenario]
    done = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=seconds(20), check=False)
    assert done.returncode == 0, done.stderr
