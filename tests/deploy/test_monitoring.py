"""A real Prometheus, as `deploy/` sets it up, that reads two nodes; and what the dashboard and the alerts ask it."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from websockets.asyncio.client import connect

from deploy.monitoring.__main__ import files
from deploy.monitoring.panels import ROWS, rate
from freshet.observe.dogstatsd import nothing
from freshet.observe.exposition import COUNTERS, GAUGES, HISTOGRAMS, exposition
from tests.tools.broker import Broker
from tests.tools.need import ROOT, require
from tests.tools.patience import seconds, wait_until
from tests.tools.redis import redis
from tests.tools.serving import HOST, Server, free_port, serving

KEY = "for Prometheus alone"
DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus/freshet.rules.yml").read_text())["groups"][0]["rules"]
PANELS = json.loads((DEPLOY / "grafana/freshet.json").read_text())["panels"]
OPEN = f"""
tokens = {{ anonymous = true }}
api = {{ anonymous = true }}
timing = {{ ping_interval = {seconds(1)}, pong_timeout = {seconds(0.9)} }}
[[channels]]
match = '*'
"""

APP = """
from freshet import Freshet, Run

live = Freshet.from_config("freshet.toml")

@live.run("chat:{chat}")
async def answer(run: Run, message: dict, chat: str) -> None:
    await run.write("Yes.")
    await run.usage(output_tokens=1)
"""


class Prometheus(Broker):
    """As `deploy/prometheus` has it, for these nodes, which it asks each second."""

    def __init__(self, folder: Path, nodes: list[Server]) -> None:
        super().__init__(free_port(), folder / "prometheus.log")
        self.nodes = nodes
        self._folder = folder
        self._url = f"http://{HOST}:{self.port}"
        (folder / "metrics_key").write_text(KEY)
        (folder / "freshet.rules.yml").write_text((DEPLOY / "prometheus/freshet.rules.yml").read_text())
        text = (DEPLOY / "prometheus/prometheus.yml").read_text()
        for theirs, ours in {
            "10s": "1s",
            "15s": "1s",
            "/run/secrets/metrics_key": str(folder / "metrics_key"),
            '"one:9000", "two:9000"': ", ".join(f'"{HOST}:{node.port}"' for node in nodes),
        }.items():
            assert text.count(theirs) == 1, theirs
            text = text.replace(theirs, ours)
        (folder / "prometheus.yml").write_text(text)

    def start(self) -> None:
        command = [require("prometheus"), f"--config.file={self._folder}/prometheus.yml"]
        command += [f"--storage.tsdb.path={self._folder}/data", f"--web.listen-address={HOST}:{self.port}"]
        self._run(command)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self._url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, query: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self._url}/api/v1/query", params={"query": query}, timeout=seconds(5)).json()
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def value(self, query: str) -> float:
        """The sum of what is found; 0 when nothing is."""
        return sum(float(each["value"][1]) for each in self.ask(query))

    def alerts(self) -> set[str]:
        found = httpx.get(f"{self._url}/api/v1/alerts", timeout=seconds(5)).json()["data"]["alerts"]
        return {each["labels"]["alertname"] for each in found}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "freshet.toml").write_text(OPEN)
    with ExitStack() as stack:
        broker = stack.enter_context(redis())
        env = {"FRESHET_ENGINE": broker.url, "FRESHET_METRICS_KEY": KEY}
        (folder / "app.py").write_text(APP)
        it = Prometheus(folder, [stack.enter_context(serving("app:live", cwd=folder, env=env)) for _ in range(2)])
        it.start()
        stack.callback(it.stop)
        yield it


async def test_every_query_of_every_panel_shows_what_clients_do(prometheus: Prometheus) -> None:
    await asyncio.to_thread(wait_until, lambda: prometheus.value('up{job="freshet"}') == 2, 20, "both nodes")
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient())
        for node in prometheus.nodes:
            await stack.enter_async_context(connect(node.ws("/channels/news"), max_queue=None))
        for number in range(40):
            node = prometheus.nodes[number % 2]
            if number in (0, 1, 30, 31):  # twice, as a rate is of what rises
                await ask_for_what_is_refused(node)
                chat = {"id": str(number), "messages": [{"id": "m", "role": "user", "parts": []}]}
                (await http.post(node.http("/ai/chat"), json=chat)).raise_for_status()
            (await http.post(node.http("/api/publish"), json={"channel": "news", "data": number})).raise_for_status()
            await asyncio.sleep(0.1)
        await asyncio.to_thread(
            wait_until,
            lambda: prometheus.value('sum(freshet_delivered_total{dialect!="ai_sdk"})') == 80,
            10,
            "the deliveries",
        )
        await asyncio.to_thread(
            wait_until, lambda: prometheus.value("sum(freshet_round_trip_seconds_count)") > 1, 20, "answers to pings"
        )
        await asyncio.to_thread(wait_until, lambda: not missing(prometheus), 20, "an answer to each query")
        assert prometheus.value("sum(freshet_published_total)") == 44  # four begin a run
        assert prometheus.value('freshet_delivery_latency_seconds_count{accepted="elsewhere"}') == 40
        assert prometheus.value(_filled(rate("delivered"))) > prometheus.value(_filled(rate("published"))) > 0


async def ask_for_what_is_refused(node: Server) -> None:
    """A client of which the metrics have all that is rare: a refusal, a policy's, its end."""
    async with connect(node.ws("/connection/websocket")) as client:
        for command in ({"connect": {}}, {"rpc": {"method": "none"}}, {"history": {"channel": "news"}}):
            await client.send(json.dumps({"id": 1, **command}))
            await client.recv()


def missing(prometheus: Prometheus) -> list[str]:
    """Queries without an answer, or with one that is no number."""
    asked = {query.expr: _filled(query.expr) for panels in ROWS.values() for panel in panels for query in panel.queries}
    assert len(asked) > 40
    answers = {expr: prometheus.ask(filled) for expr, filled in asked.items()}
    return [expr for expr, found in answers.items() if not any(each["value"][1] != "NaN" for each in found)]


def test_the_dashboards_and_the_rules_are_what_their_lists_make() -> None:
    for path, text in files():
        assert path.read_text() == text, f"{path}: python -m deploy.monitoring --write"
    shown = [panel for panel in PANELS if panel["type"] != "row"]
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == list(ROWS)
    assert len({panel["title"] for panel in shown}) == len(shown) == sum(map(len, ROWS.values()))
    assert all(panel["description"] and panel["targets"] for panel in shown)


def test_datadog_shows_the_same_and_asks_only_for_what_is_sent() -> None:
    board = json.loads((DEPLOY / "datadog/dashboard.json").read_text())
    widgets = [it["definition"] for group in board["widgets"] for it in group["definition"]["widgets"]]
    assert [it["title"] for it in widgets] == [panel.title for panels in ROWS.values() for panel in panels]
    queries = [query["query"] for it in widgets for request in it["requests"] for query in request["queries"]]
    sent = {**GAUGES, **COUNTERS, **HISTOGRAMS}
    for query in queries:
        kind, name, labels = re.fullmatch(  # type: ignore[union-attr]
            r"(sum|max|avg|p\d\d):freshet\.(\w+)\{\*\}(?: by \{([\w,]+)\})?(?:\.as_rate\(\))?", query
        ).groups()
        assert kind.startswith("p") is (name in HISTOGRAMS), query
        assert set((labels or "").split(",")) <= {"", "host", "worker", *sent[name].labels}, query


def test_the_agent_of_datadog_is_told_where_the_metrics_are() -> None:
    (instance,) = yaml.safe_load((DEPLOY / "datadog/openmetrics.yaml").read_text())["instances"]
    assert instance["openmetrics_endpoint"].endswith("/metrics")
    assert instance["headers"]["Authorization"].startswith("Bearer ")
    text, _ = exposition({"0": nothing()}, "application/openmetrics-text")
    names = re.findall(r"^# TYPE (\w+)", text.decode(), re.MULTILINE)
    assert all(name.startswith(instance["raw_metric_prefix"]) for name in names)
    assert all(any(re.fullmatch(pattern, name) for pattern in instance["metrics"]) for name in names)


def _filled(expression: str) -> str:
    return expression.replace("$instance", ".*").replace("$__rate_interval", "1m")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_is_quiet_while_all_is_well_and_says_what_to_do(prometheus: Prometheus, rule: dict[str, Any]) -> None:
    assert prometheus.ask(rule["expr"]) == []
    assert re.search(r"\w+ \w+", rule["annotations"]["summary"])
    assert rule["annotations"]["action"].endswith(".")
    assert rule["annotations"]["impact"].endswith(".")
    assert rule["labels"]["severity"] in ("warning", "critical")


def test_a_node_that_is_gone_is_noticed(prometheus: Prometheus) -> None:
    one, two = prometheus.nodes
    one.kill()
    wait_until(lambda: "FreshetDown" in prometheus.alerts(), 30, "the alert")
    assert [each["metric"]["instance"] for each in prometheus.ask('up{job="freshet"} == 0')] == [f"{HOST}:{one.port}"]
    assert prometheus.value('up{job="freshet"}') == 1
    assert two.process.poll() is None
