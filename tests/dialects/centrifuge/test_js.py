"""Every command of the dialect, by the official JavaScript client in Node, over each transport.

The scenarios are in tests/node.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.cases import Cases, cases
from tests.tools.clients import CONFIG, token
from tests.tools.serving import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("centrifuge") / "freshet.toml"
    config.write_text(CONFIG)
    with serving("--config", str(config)) as server:
        yield server


@pytest.fixture(scope="module")
def play(node: Path) -> Iterator[Cases]:
    with cases(node, "centrifuge.mjs") as play:
        yield play


@pytest.mark.parametrize("transport", ["websocket", "http_stream", "sse"])
@pytest.mark.parametrize(
    "scenario",
    [
        *("publish", "unsubscribe", "presence", "history", "recovery", "unrecovered", "personal", "refusals", "token"),
        *("cut", "another_way", "halves", "kinds"),
    ],
)
def test_the_javascript_client(server: Server, play: Cases, transport: str, scenario: str) -> None:
    tokens = [token("alice"), token("bob"), token("alice", expires_in=-10), token("alice")]
    play(server.http(""), transport, scenario, *tokens)
