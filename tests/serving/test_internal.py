"""A port for operators: what is there, and what is no longer where clients connect."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from freshet import Freshet
from freshet.config import parse
from tests.tools.asgi import knock
from tests.tools.certificates import certify
from tests.tools.clients import soon
from tests.tools.patience import eventually, seconds, wait_until
from tests.tools.ports import free_port
from tests.tools.serving import HOST, Server, serving

Serve = Callable[..., Server]
KEYS = {"FRESHET_API_KEY": "for back ends", "FRESHET_METRICS_KEY": "for Prometheus"}
API = {"X-API-Key": KEYS["FRESHET_API_KEY"]}
METRICS = {"Authorization": f"Bearer {KEYS['FRESHET_METRICS_KEY']}"}
MOUNTED = """
from fastapi import FastAPI
from freshet import Freshet
live = Freshet(dev=True)
app = FastAPI(lifespan=live.lifespan)
app.mount("/live", live)

@app.get("/own")
def own():
    return "mine"
"""


class Ports(NamedTuple):
    server: Server
    port: int

    def at(self, path: str) -> str:
        return f"http://{HOST}:{self.port}{path}"


@pytest.fixture(scope="module", params=[1, 2], ids=["alone", "workers"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    port, config = free_port(), tmp_path_factory.mktemp("internal") / "freshet.toml"
    config.write_text(f"tokens.anonymous = true\ninternal.port = {port}\n[[channels]]\nmatch = '*'\n")
    with serving("--config", str(config), "--workers", str(request.param), env=KEYS) as server:
        wait_until(lambda: _answers(f"http://{HOST}:{port}/health/ready"), 10, "the internal port")
        yield Ports(server, port)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_operators_are_answered_there_with_their_keys(both: Ports) -> None:
    assert httpx.get(both.at("/health/live")).status_code == 200
    assert httpx.get(both.at("/metrics"), headers=METRICS).text.count("freshet_ready{") >= 1
    assert "nodes" in httpx.post(both.at("/api/info"), json={}, headers=API).json()["result"]
    assert httpx.get(both.at("/api/openapi.json")).status_code == 200
    assert httpx.get(both.at("/metrics")).status_code == 401
    assert httpx.post(both.at("/api/info"), json={}).status_code == 401


@pytest.mark.parametrize("path", ["/metrics", "/api", "/api/", "/api/info", "/api/openapi.json", "//api/info"])
def test_clients_do_not_find_it_where_they_connect(both: Ports, path: str) -> None:
    for method in ("GET", "POST"):
        answer = httpx.request(method, both.server.http(path), headers={**API, **METRICS}, content="{}")
        assert answer.status_code == 404, answer.text
    assert httpx.get(both.server.http("/health/ready")).status_code == 200


async def test_clients_are_not_served_there(both: Ports) -> None:
    for path in ("/channels/news", "/connection/websocket", "/socket.io/?EIO=4&transport=websocket"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://{HOST}:{both.port}{path}")
        assert refused.value.response.status_code == 404
    async with httpx.AsyncClient() as http:
        assert (await http.get(both.at("/channels/news"))).status_code == 404


async def test_what_is_published_there_reaches_the_clients_of_all_workers(both: Ports) -> None:
    async with httpx.AsyncClient(timeout=seconds(10)) as http, asyncio.TaskGroup() as tasks:
        opening = [tasks.create_task(_connected(both)) for _ in range(6)]
        sockets = [await each for each in opening]

        async def subscribed() -> bool:
            found = (await http.post(both.at("/api/channels"), json={}, headers=API)).json()["result"]["channels"]
            return bool(found.get("news", {}).get("num_clients") == 6)

        await eventually(subscribed, 10, "all to be subscribed")
        await http.post(both.at("/api/publish"), json={"channel": "news", "data": 7}, headers=API)
        assert {await soon(socket.recv()) for socket in sockets} == {"7"}
        for socket in sockets:
            await socket.close()


async def _connected(both: Ports) -> ClientConnection:
    return await connect(both.server.ws("/channels/news"))


def test_in_an_application_it_is_at_the_root_whatever_the_prefix_of_the_mount(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "mounted.py").write_text(MOUNTED)
    port = free_port()
    server = serve("mounted:app", cwd=tmp_path, env={"FRESHET_INTERNAL__PORT": str(port)})
    assert httpx.get(f"http://{HOST}:{port}/metrics").status_code == 200
    assert httpx.post(f"http://{HOST}:{port}/api/info", json={}).json()["result"]
    assert httpx.get(f"http://{HOST}:{port}/own").status_code == 404
    assert httpx.get(server.http("/own")).json() == "mine"
    for path in ("/live/metrics", "/live/api/info", "/metrics"):
        assert httpx.get(server.http(path)).status_code == 404


def test_where_no_key_is_asked_for_no_page_gets_there_by_a_name_of_its_own(serve: Serve) -> None:
    port = free_port()
    serve("--dev", env={"FRESHET_INTERNAL__PORT": str(port)})
    url = f"http://{HOST}:{port}/api/info"
    for host, status in (("evil.example.org", 421), ("localhost", 200), (f"{HOST}:{port}", 200)):
        assert httpx.post(url, json={}, headers={"Host": host}).status_code == status
    assert httpx.post(url, json={}, headers={"Origin": "https://evil.example.org"}).status_code == 403


def test_it_may_speak_tls_too(serve: Serve, tmp_path: Path) -> None:
    certificate, key = certify(tmp_path)
    port = free_port()
    options = {"FRESHET_INTERNAL__PORT": str(port), "FRESHET_INTERNAL__TLS": "true"}
    serve("--dev", "--tls-cert", str(certificate), "--tls-key", str(key), env=options)
    trust = ssl.create_default_context(cafile=str(certificate))
    assert httpx.get(f"https://{HOST}:{port}/metrics", verify=trust).status_code == 200
    with pytest.raises(RuntimeError, match=r"cannot start: internal\.tls: needs a certificate"):
        serving("--dev", env=options).__enter__()


def test_a_port_that_is_taken_ends_the_server_and_is_named(both: Ports) -> None:
    for workers in ("1", "2"):
        env = {"FRESHET_INTERNAL__PORT": str(both.port)}
        with pytest.raises(RuntimeError, match=rf"cannot listen[\s\S]*{both.port}"):
            serving("--dev", "--workers", workers, env=env).__enter__()


async def test_under_another_server_nobody_is_answered_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    live = Freshet(config=parse({"internal": {"port": 9000}, "api": {"anonymous": True}}), environment={})
    async with live.lifespan():
        assert (await knock(live, "POST", "/api/info")).status == 404
        assert (await knock(live, "GET", "/health/ready")).status == 200
    assert "[tls] and [internal] are for `freshet serve`" in caplog.text
