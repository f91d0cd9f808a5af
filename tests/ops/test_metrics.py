"""What Prometheus scrapes, by servers that clients use while it asks."""

import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect

from tests.tools.need import ROOT
from tests.tools.patience import eventually, seconds, wait_until
from tests.tools.serving import Server, serving

KEY = "for Prometheus alone"
RULES = """
[[channels]]
match = "small"
history = { size = 2, ttl = 60 }
[[channels]]
match = "*"
subscribe = "token"
"""
OPEN = f"tokens = {{ anonymous = true }}\napi = {{ anonymous = true }}\nmetrics = {{ anonymous = true }}\n{RULES}"


def metrics(server: Server, **headers: str) -> dict[str, float]:
    """By what stands in the text: `freshet_ready{worker="0"}`."""
    answer = httpx.get(server.http("/metrics"), headers=headers, timeout=seconds(10)).raise_for_status()
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.headers["Cache-Control"] == "no-store"
    families = text_string_to_metric_families(answer.text)
    return {_written(sample.name, sample.labels): sample.value for family in families for sample in family.samples}


def _written(name: str, labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inside}}}"


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "freshet.toml"
    path.write_text(OPEN)
    return str(path)


@pytest.fixture
def server(config: str) -> Iterator[Server]:
    with serving("--config", config) as server:
        yield server


@asynccontextmanager
async def talking(server: Server) -> AsyncIterator[ClientConnection]:
    async with connect(server.ws("/connection/websocket")) as client:
        await say(client, {"connect": {}})
        yield client


async def say(client: ClientConnection, command: Mapping[str, Any]) -> dict[str, Any]:
    await client.send(json.dumps({"id": 1, **command}))
    reply: dict[str, Any] = json.loads(await client.recv())
    return reply


def publish(server: Server, number: int, **tags: str) -> None:
    for index in range(number):
        answer = httpx.post(server.http("/api/publish"), json={"channel": "small", "data": index, "tags": tags})
        assert "result" in answer.json()


async def test_what_clients_do_is_counted(server: Server) -> None:
    before = metrics(server)
    assert before['freshet_ready{worker="0"}'] == 1
    assert before['freshet_memory_bytes{worker="0"}'] > 1e7
    async with talking(server) as one, talking(server) as two:
        place = (await say(one, {"subscribe": {"channel": "small"}}))["subscribe"]
        await say(two, {"subscribe": {"channel": "small"}})
        assert "error" in await say(two, {"subscribe": {"channel": "closed"}})
        publish(server, 3)
        for client in (one, two):
            for _ in range(3):
                await client.recv()
        during = metrics(server)
        assert during['freshet_clients{dialect="centrifuge",transport="websocket",worker="0"}'] == 2
        assert during['freshet_subscriptions{worker="0"}'] == 2
        assert during['freshet_channels{worker="0"}'] == 1
        await say(one, {"unsubscribe": {"channel": "small"}})
        for offset, recovered in ((2, True), (0, False)):  # of three, the log keeps two
            since = {"recover": True, "epoch": place["epoch"], "offset": offset}
            reply = await say(one, {"subscribe": {"channel": "small", **since}})
            assert reply["subscribe"].get("recovered", False) is recovered
            await say(one, {"unsubscribe": {"channel": "small"}})
    await eventually(lambda: not any(name.startswith("freshet_clients{") for name in metrics(server)), 5, "their end")
    after = metrics(server)
    assert after['freshet_connected_total{dialect="centrifuge",transport="websocket",worker="0"}'] == 2
    assert after['freshet_ended_total{code="3000",worker="0"}'] == 2
    assert after['freshet_published_total{worker="0"}'] == 3
    assert after['freshet_fanned_out_total{worker="0"}'] == 3
    assert after['freshet_delivered_total{dialect="centrifuge",worker="0"}'] == 6
    assert after['freshet_recovered_total{worker="0"}'] == 1
    assert after['freshet_unrecovered_total{worker="0"}'] == 1
    assert sum(value for name, value in after.items() if name.startswith("freshet_refusals_total{")) == 1


async def test_what_a_listener_does_not_want_is_not_delivered_to_it(server: Server) -> None:
    async with talking(server) as one, talking(server) as two:
        await say(one, {"subscribe": {"channel": "small"}})
        await say(two, {"subscribe": {"channel": "small", "tf": {"key": "kind", "cmp": "eq", "val": "big"}}})
        publish(server, 1, kind="big")
        publish(server, 2, kind="little")
        found = metrics(server)
        assert found['freshet_fanned_out_total{worker="0"}'] == 3
        assert found['freshet_delivered_total{dialect="centrifuge",worker="0"}'] == 4


def test_how_late_the_loop_was_is_a_histogram(server: Server) -> None:
    name = 'freshet_loop_lag_seconds_bucket{le="+Inf",worker="0"}'
    wait_until(lambda: metrics(server)[name] >= 2, 10, "two ticks")
    found = metrics(server)
    buckets = [value for key, value in found.items() if key.startswith("freshet_loop_lag_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert found['freshet_loop_lag_seconds_count{worker="0"}'] == buckets[-1]
    assert 0 <= found['freshet_loop_lag_seconds_sum{worker="0"}'] < 10


def test_who_asks_for_open_metrics_gets_them(server: Server) -> None:
    answer = httpx.get(server.http("/metrics"), headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert {"freshet_ready", "freshet_published"} <= {family.name for family in open_metrics(answer.text)}


def test_one_worker_tells_of_all_and_who_follows_one_that_died_has_its_place(config: str) -> None:
    with serving("--config", config, "--workers", "3") as server:

        def places() -> set[str]:
            return {name for name in metrics(server) if name.startswith("freshet_ready")}

        all_three = {f'freshet_ready{{worker="{place}"}}' for place in range(3)}
        wait_until(lambda: places() == all_three, 20, "all workers")
        publish(server, 4)
        published = [f'freshet_published_total{{worker="{place}"}}' for place in range(3)]
        found = metrics(server)
        assert sum(found[name] for name in published) == 4
        first = int(Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()[0])
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: "takes its place" in server.log(), 10, "its end")
        wait_until(lambda: places() == all_three, 20, "another in its place")


@pytest.mark.parametrize(
    ("environment", "headers", "reason"),
    [
        ({}, {}, "set FRESHET_METRICS_KEY or [metrics] key"),
        ({}, {"Authorization": "Bearer"}, "set FRESHET_METRICS_KEY or [metrics] key"),
        ({"FRESHET_METRICS_KEY": KEY}, {}, "A key is required"),
        ({"FRESHET_METRICS_KEY": KEY}, {"Authorization": "Bearer a guess"}, "A key is required"),
        ({"FRESHET_METRICS_KEY": KEY}, {"Authorization": f"Basic {KEY}"}, "A key is required"),
        ({"FRESHET_METRICS_KEY": KEY, "FRESHET_API_KEY": "b"}, {"Authorization": "Bearer b"}, "A key is required"),
    ],
    ids=["none", "empty", "missing", "wrong", "another scheme", "that of the API"],
)
def test_without_the_key_nothing_is_told(environment: dict[str, str], headers: dict[str, str], reason: str) -> None:
    with serving(env={"FRESHET_SECRET": "x" * 32, **environment}) as server:
        answer = httpx.get(server.http("/metrics"), headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert reason in answer.text
        assert KEY not in answer.text + server.log()


def test_with_the_key_all_is_told() -> None:
    with serving(env={"FRESHET_SECRET": "x" * 32, "FRESHET_METRICS_KEY": KEY}) as server:
        assert metrics(server, Authorization=f"Bearer {KEY}")['freshet_ready{worker="0"}'] == 1


def test_what_the_dashboard_and_the_alerts_ask_for_is_told_and_the_documentation_has_all(server: Server) -> None:
    text = httpx.get(server.http("/metrics")).text
    exposed = {name.removesuffix("_total") for name in re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE)}
    dashboard = (ROOT / "deploy/grafana/freshet.json").read_text()
    alerts = (ROOT / "deploy/prometheus/freshet.rules.yml").read_text()
    assert json.loads(dashboard)["panels"]
    assert yaml.safe_load(alerts)["groups"][0]["rules"]
    asked = {re.sub(r"_(total|bucket)$", "", name) for name in re.findall(r"freshet_\w+", dashboard + alerts)}
    assert asked <= exposed, asked - exposed
    guide = (ROOT / "docs/guide/monitoring.md").read_text()
    described = set(re.findall(r"^\| `(freshet_\w+?)(?:_total)?`", guide, re.MULTILINE))
    assert described == exposed
