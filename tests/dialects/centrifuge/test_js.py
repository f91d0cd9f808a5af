"""Every command of the dialect, by the official JavaScript client in Node, over each transport.

The scenarios are in tests/node.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.clients import CONFIG, token
from tests.tools.need import require
from tests.tools.patience import seconds
from tests.tools.serving import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("centrifuge") / "freshet.toml"
    config.write_text(CONFIG)
    with serving("--config", str(config)) as server:
        yield server


@pytest.mark.parametrize("transport", ["websocket", "http_stream", "sse"])
@pytest.mark.parametrize(
    "scenario",
    [
        *("publish", "unsubscribe", "presence", "history", "recovery", "unrecovered", "personal", "refusals", "token"),
        *("cut", "another_way", "halves", "kinds"),
    ],
)
def test_the_javascript_client(server: Server, node: Path, transport: str, scenario: str) -> None:
    tokens = [token("alice"), token("bob"), token("alice", expires_in=-10), token("alice")]
    command = [require("node"), "centrifuge.mjs", server.http(""), transport, scenario, *tokens]
    done = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=seconds(20), check=False)
    assert done.returncode == 0, done.stderr
