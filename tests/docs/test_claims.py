"""What README and the documentation claim in tables stands in tests: each line names those that hold it."""

import ast
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from freshet import Freshet
from freshet.wiring.engines import ENGINES
from tests.tools.need import ROOT

CENTRIFUGE = "tests/dialects/centrifuge"
# By the first column of README's tables: the tests that hold the line, one for each of its words.
CLIENTS = {
    "npm `centrifuge`": [
        "tests/promises/test_recovery_js.py::test_javascript_clients_get_every_publication_once_in_order_or_hear_of_the_loss",
        f"{CENTRIFUGE}/test_filter.py::test_a_javascript_client_hears_what_it_wants_also_of_what_it_missed",
    ],
    "PyPI `centrifuge-python`": [
        "tests/promises/test_recovery.py::test_every_acknowledged_publication_arrives_once_in_order_or_its_loss_is_told"
    ],
    "npm `socket.io-client`, PyPI `python-socketio`": [
        "tests/endpoints/socketio/test_js.py::test_the_javascript_client",
        "tests/endpoints/socketio/test_python.py::test_events_are_acknowledged_in_both_directions",
    ],
    "boto3, npm `@aws-sdk/client-apigatewaymanagementapi`": [
        "tests/api/test_gateway_management.py::test_boto3_does_all_calls",
        "tests/api/test_gateway_management.py::test_the_client_for_javascript_does_all_calls_and_names_all_errors",
    ],
    "a bare `WebSocket`, PyPI `websockets`": [
        "tests/endpoints/test_channels_browser.py::test_a_page_hears_publishes_reads_and_comes_back"
    ],
    "`EventSource`, `httpx`, `curl`": [
        "tests/endpoints/test_channels.py::test_an_event_source_comes_back_by_itself",
        "tests/endpoints/test_channels.py::test_an_event_stream_goes_on_where_it_stopped",
        "tests/endpoints/test_channels.py::test_curl_publishes_and_reads",
    ],
    "PyPI `cent`, `curl`": ["tests/api/test_http.py::test_a_publication_reaches_who_listens"],
}
OVER_TLS = {"rediss": "redis", "tls": "nats"}
README = (ROOT / "README.md").read_text()


def rows(page: str, head: str) -> list[list[str]]:
    """The cells of the table that begins with this column."""
    table = page[page.index(f"| {head} |") :].split("\n\n", maxsplit=1)[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


def functions_of(path: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, functions)}


def test_every_client_that_works_is_held_by_tests_and_no_other_is_said_to() -> None:
    works = [name for name, *_, state in rows(README, "client") if state.strip("| ") == "works"]
    assert [name.strip("| ") for name in works] == list(CLIENTS)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_tests_that_hold_a_client_are_there(client: str) -> None:
    for named in CLIENTS[client]:
        path, _, name = named.partition("::")
        assert name in functions_of(ROOT / path), named


def test_every_engine_of_the_table_is_one_and_none_is_missing() -> None:
    schemes = re.findall(r"`(\w+)://", "\n".join(cells[0] for cells in rows(README, "engine")))
    assert {*schemes} == {OVER_TLS.get(scheme.partition("+")[0], scheme.partition("+")[0]) for scheme in ENGINES}


def test_the_figures_of_readme_are_those_that_were_measured() -> None:
    results = (ROOT / "bench/RESULTS.md").read_text()
    of_the_limit = re.search(r"^\| 1 \| Freshet \|.*?\| ([\d.]+) \|[^|]*\|[^|]*\|$", results, re.MULTILINE)
    idle = re.search(r"idle client with one subscription: ([\d.]+) KiB", results)
    assert of_the_limit is not None
    assert idle is not None
    assert f"cost {float(of_the_limit[1]):.1f} times what a bare loop" in README
    assert f"an idle client {Decimal(idle[1]).quantize(Decimal('.1'), ROUND_HALF_UP)} KiB" in README


def test_what_is_said_not_to_be_there_is_not_there() -> None:
    """When one of them comes, the page on other projects has to say so."""
    missing = (ROOT / "docs/about/comparison.md").read_text().split("## What Freshet does not have")[1]
    endpoints = {path.stem for path in (ROOT / "src/freshet/endpoints").iterdir()}
    for name in ("yjs", "webtransport", "mqtt", "grpc"):
        assert (name in missing.lower()) != (name in endpoints), name


async def test_an_application_that_is_told_of_its_prefix_finds_its_channels() -> None:
    live = Freshet(dev=True)
    api = Starlette(routes=[Mount("/live", live)])
    async with live.lifespan():
        for prefix in ("", "/app"):
            transport = httpx.ASGITransport(app=api, root_path=prefix)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                sent = await http.post(f"{prefix}/live/channels/news", json={"text": "hello"})
                assert sent.status_code == 200, sent.text
                assert (await http.get(f"{prefix}/live/channels/news")).json()["offset"] > 0
