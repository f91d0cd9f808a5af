"""Maps by the official JavaScript client, unmodified, over each transport and in both encodings: see tests/node."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.suites.running import ENGINES, on_engine
from tests.tools.cases import Cases, cases
from tests.tools.clients import SECRET, token
from tests.tools.serving import UNLIMITED, Server, serving

KEY = "a key of the server API"
CONFIG = """
[tokens]
anonymous = true
secret = "SECRET"
[[channels]]
match = "ephemeral:*"
state = { mode = "ephemeral", ttl = 60 }
publish = "subscriber"
[[channels]]
match = "recoverable:*"
state = { mode = "recoverable", ttl = 60 }
publish = "subscriber"
[[channels]]
match = "persistent:*"
state = {}
publish = "subscriber"
[[channels]]
match = "ephemeral-delta:*"
state = { mode = "ephemeral", ttl = 60 }
delta = true
publish = "subscriber"
[[channels]]
match = "persistent-delta:*"
state = {}
delta = true
publish = "subscriber"
[[channels]]
match = "small:*"
state = {}
history = { size = 2, ttl = 60 }
publish = "subscriber"
[[channels]]
match = "debounced:*"
state = { mode = "ephemeral", ttl = 60 }
debounce = 0.1
publish = "subscriber"
[[channels]]
match = "paced:*"
debounce = 0.1
publish = "subscriber"
[[channels]]
match = "own:*"
state = { mode = "ephemeral", ttl = 60, key = "client" }
publish = "subscriber"
[[channels]]
match = "reading:*"
state = {}
[[channels]]
match = "plain:*"
history = { size = 10, ttl = 60 }
[[channels]]
match = "here:*"
state = { mode = "ephemeral", ttl = 60 }
presence = true
read = "client"
[[channels]]
match = "closed:*"
presence = true
[[channels]]
match = "clients:*"
state = { of = "clients" }
[[channels]]
match = "users:*"
state = { of = "users" }
""".replace("SECRET", SECRET)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("maps")
    config = folder / "freshet.toml"
    config.write_text(CONFIG + UNLIMITED)
    env = {"FRESHET_API_KEY": KEY, "FRESHET_ROOMS__STORE": f"sqlite:///{folder / 'rooms.db'}"}
    with serving("--config", str(config), env=env) as server:
        yield server


@pytest.fixture(scope="module", params=[engine for engine in ENGINES if engine != "memory"])
def elsewhere(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """On another engine, or in several processes."""
    folder = tmp_path_factory.mktemp("maps")
    config = folder / "freshet.toml"
    config.write_text(f'{CONFIG}{UNLIMITED}\n[api]\nkey = "{KEY}"\n')
    with on_engine(request.param, folder, "--config", str(config)) as server:
        yield server


WAYS = [("websocket", "json"), ("http_stream", "json"), ("sse", "json"), ("websocket", "protobuf")]


SCENARIOS = [
    "changes",
    "pages",
    "meanwhile",
    "recovery",
    "expiry",
    "filter",
    "deltas",
    "debounce",
    "rights",
    "presence",
    "others",
]


@pytest.fixture(scope="module")
def play(node: Path) -> Iterator[Cases]:
    with cases(node, "maps.mjs") as play:
        yield play


@pytest.mark.parametrize(("transport", "encoding"), WAYS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_javascript_client_with_a_map(
    server: Server, play: Cases, transport: str, encoding: str, scenario: str
) -> None:
    play(server.http("").rstrip("/"), transport, encoding, scenario, KEY, token("alice"), within=30)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_on_every_engine_a_map_is_the_same(elsewhere: Server, play: Cases, scenario: str) -> None:
    play(elsewhere.http("").rstrip("/"), "websocket", "json", scenario, KEY, token("alice"), within=30)
