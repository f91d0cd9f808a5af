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

from tests.tools.broker import Broker
from tests.tools.need import ROOT, require
from tests.tools.patience import seconds, wait_until
from tests.tools.redis import redis
from tests.tools.serving import HOST, Server, free_port, serving

KEY = "for Prometheus alone"
DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus/freshet.rules.yml").read_text())["groups"][0]["rules"]
PANELS = json.loads((DEPLOY / "grafana/freshet.json").read_text())["panels"]
OPEN = "tokens = { anonymous = true }\napi = { anonymous = true }\n[[channels]]\nmatch = '*'\n"


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
        config = ("--config", str(folder / "freshet.toml"))
        it = Prometheus(folder, [stack.enter_context(serving(*config, env=env)) for _ in range(2)])
        it.start()
        stack.callback(it.stop)
        yield it


async def test_it_reads_both_nodes_and_the_dashboard_shows_what_clients_do(prometheus: Prometheus) -> None:
    await asyncio.to_thread(wait_until, lambda: prometheus.value('up{job="freshet"}') == 2, 20, "both nodes")
    async with AsyncExitStack() as stack:
        for node in prometheus.nodes:
            await stack.enter_async_context(connect(node.ws("/channels/news"), max_queue=None))
        http = await stack.enter_async_context(httpx.AsyncClient())
        for number in range(40):
            node = prometheus.nodes[number % 2]
            (await http.post(node.http("/api/publish"), json={"channel": "news", "data": number})).raise_for_status()
            await asyncio.sleep(0.1)
        await asyncio.to_thread(
            wait_until, lambda: prometheus.value("sum(freshet_delivered_total)") == 80, 10, "the deliveries"
        )
        assert prometheus.value("sum(freshet_published_total)") == 40
        shown = {
            panel["title"]: [prometheus.ask(_filled(target["expr"])) for target in panel["targets"]] for panel in PANELS
        }
    for title in ("Clients", "Publications", "Deliveries", "How late the event loop is", "CPU", "Memory", "Recovery"):
        assert all(shown[title]), title
    assert float(shown["Publications"][0][0]["value"][1]) > 0
    assert float(shown["Deliveries"][0][0]["value"][1]) > float(shown["Publications"][0][0]["value"][1])


def _filled(expression: str) -> str:
    return expression.replace("$instance", ".*").replace("$__rate_interval", "1m")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_is_quiet_while_all_is_well_and_says_what_to_do(prometheus: Prometheus, rule: dict[str, Any]) -> None:
    assert prometheus.ask(rule["expr"]) == []
    assert re.search(r"\w+ \w+", rule["annotations"]["summary"])
    assert rule["annotations"]["action"].endswith(".")


def test_a_node_that_is_gone_is_noticed(prometheus: Prometheus) -> None:
    one, two = prometheus.nodes
    one.kill()
    wait_until(lambda: "FreshetDown" in prometheus.alerts(), 30, "the alert")
    assert [each["metric"]["instance"] for each in prometheus.ask('up{job="freshet"} == 0')] == [f"{HOST}:{one.port}"]
    assert prometheus.value('up{job="freshet"}') == 1
    assert two.process.poll() is None
