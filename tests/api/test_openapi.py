"""The description of the server API, and requests made up from it: whatever is sent, none is answered with 5xx."""

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance  # JSON Schema calls 1.0 an integer

from freshet.api.examples import EXAMPLES
from freshet.api.requests import BatchRequest
from freshet.api.results import BatchResult
from freshet.api.table import METHODS
from tests.tools.serving import Server, serving

KEY = "a key for tests"


RULES = """
[api]
key = "a key for tests"
[[channels]]
match = "*"
presence = true
history = { size = 10, ttl = 60 }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("openapi") / "freshet.toml"
    config.write_text(RULES)
    with serving("--config", str(config)) as server:
        yield server


@pytest.mark.parametrize("name", [*METHODS, "batch"])
def test_whatever_is_sent_is_answered_as_described(server: Server, name: str) -> None:
    operation = schemathesis.openapi.from_url(server.http("/api/openapi.json"))[f"/{name}"]["POST"]

    @given(case=operation.as_strategy())
    @settings(max_examples=50, suppress_health_check=list(HealthCheck), derandomize=True)
    def sent(case: schemathesis.Case) -> None:
        case.call_and_validate(headers={"X-API-Key": KEY}, excluded_checks=[positive_data_acceptance])

    sent()


@pytest.mark.parametrize("name", [*METHODS, "batch"])
def test_what_is_sent_against_the_description_breaks_nothing(server: Server, name: str) -> None:
    operation = schemathesis.openapi.from_url(server.http("/api/openapi.json"))[f"/{name}"]["POST"]

    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
    @settings(max_examples=50, suppress_health_check=list(HealthCheck), derandomize=True)
    def sent(case: schemathesis.Case) -> None:
        answer = case.call(headers={"X-API-Key": KEY})
        assert answer.status_code < 500
        assert "internal" not in answer.text

    sent()


def test_every_method_is_described(server: Server) -> None:
    description = httpx.get(server.http("/api/openapi.json")).json()
    assert set(description["paths"]) == {f"/{name}" for name in [*METHODS, "batch"]}
    assert all(path["post"]["summary"] for path in description["paths"].values())


@pytest.mark.parametrize("name", [*METHODS, "batch"])
def test_the_examples_are_of_the_types_that_are_described(name: str) -> None:
    request, answer = (BatchRequest, BatchResult) if name == "batch" else METHODS[name][:2]
    for example, kind in zip(EXAMPLES[name], (request, answer), strict=True):
        given = msgspec.json.encode(example)
        understood = msgspec.json.encode(msgspec.json.decode(given, type=kind))
        assert example.items() <= msgspec.json.decode(understood).items()


def test_the_description_says_who_needs_a_key(server: Server, serve: Any) -> None:
    assert {"key": []} in httpx.get(server.http("/api/openapi.json")).json()["security"]
    assert httpx.get(serve("--dev").http("/api/openapi.json")).json()["security"] == []


def test_the_description_says_where_the_server_is_mounted(serve: Any) -> None:
    server = serve("tests.api.mounted:api")
    description = httpx.get(server.http("/live/api/openapi.json")).json()
    assert description["servers"] == [{"url": "/live/api"}]
    assert httpx.post(server.http("/live/api/info"), content=b"{}").status_code == 200
