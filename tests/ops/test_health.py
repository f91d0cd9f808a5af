"""What probes are told."""

import contextlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from websockets.asyncio.client import connect

from freshet.config import HealthLimits
from freshet.ops.health import Health
from freshet.ops.routes import health_routes
from tests.tools.patience import seconds, wait_until
from tests.tools.redis import redis
from tests.tools.serving import serving

LIMITS = HealthLimits(engine=10, loop_lag=1)


def test_a_server_that_serves_is_alive_and_ready() -> None:
    with serving("--dev") as server:
        for path in ("/health/live", "/health/ready"):
            answer = httpx.get(server.http(path))
            assert answer.status_code == 200
            assert answer.headers["Cache-Control"] == "no-store"
        assert answer.json()["status"] == "ready"


def test_a_probe_may_ask_for_the_head_alone() -> None:
    with serving("--dev") as server:
        for path in ("/health/live", "/health/ready", "/metrics"):
            answer = httpx.head(server.http(path))
            assert (answer.status_code, answer.content) == (200, b"")


async def test_a_server_that_sends_its_clients_away_is_alive_and_not_ready() -> None:
    """Its clients go at 500 a second at least, so that these take half a second."""
    seen: list[tuple[int, str]] = []
    with serving("--dev") as server:
        async with AsyncExitStack() as stack:
            for _ in range(250):
                await stack.enter_async_context(connect(server.ws("/channels/a")))
            http = await stack.enter_async_context(httpx.AsyncClient(timeout=seconds(5)))
            assert (await http.get(server.http("/health/ready"))).status_code == 200
            server.process.terminate()
            with contextlib.suppress(httpx.TransportError):  # the connection ends at last
                while True:
                    answer = await http.get(server.http("/health/ready"))
                    seen.append((answer.status_code, answer.json()["status"]))
                    live = await http.get(server.http("/health/live"))
                    assert live.status_code == 200
        assert server.ended() == 0
    assert (503, "draining") in seen
    assert seen.index((503, "draining")) == len(seen) - seen.count((503, "draining"))


def ready(
    *, state: str = "ready", away: float = 0.0, lag: float = 0.0, limits: HealthLimits = LIMITS
) -> httpx.Response:
    """What a probe is told of a node in such a state."""
    health = Health(limits, lambda: state, lambda: away, lambda: lag)
    app = Starlette(routes=health_routes(health))
    with TestClient(app) as client:
        answer: httpx.Response = client.get("/health/ready")
        assert client.get("/health/live").status_code == 200  # it lives, whatever the state
    return answer


@pytest.mark.parametrize(
    ("node", "status", "body"),
    [
        ({}, 200, {"status": "ready", "engine": "ok", "engine_away": 0, "loop_lag": 0, "draining": False}),
        ({"away": 9.9}, 200, {"status": "ready", "engine": "away", "engine_away": 9.9}),
        ({"away": 10.1}, 503, {"status": "engine away", "engine": "away"}),
        ({"lag": 0.9}, 200, {"status": "ready", "loop_lag": 0.9}),
        ({"lag": 1.1}, 503, {"status": "late", "loop_lag": 1.1}),
        ({"state": "draining", "away": 99}, 503, {"status": "draining", "draining": True, "engine": "away"}),
        ({"state": "starting"}, 503, {"status": "starting", "draining": False}),
        ({"away": 1e6, "lag": 1e6, "limits": HealthLimits(engine=0, loop_lag=0)}, 200, {"status": "ready"}),
    ],
    ids=["well", "engine briefly", "engine", "late a little", "late", "draining", "starting", "without limits"],
)
def test_a_probe_is_told_of_the_engine_the_loop_and_draining(
    node: dict[str, Any], status: int, body: dict[str, object]
) -> None:
    answer = ready(**node)
    assert answer.status_code == status
    assert answer.json() | body == answer.json()


def test_a_server_whose_engine_goes_is_not_ready_until_it_is_back(tmp_path: Path) -> None:
    with redis() as broker:
        (tmp_path / "freshet.toml").write_text(f'engine = "{broker.url}"\n[health]\nengine = 0.1\n')
        with serving("--config", str(tmp_path / "freshet.toml")) as server:

            def status() -> tuple[int, str]:
                answer = httpx.get(server.http("/health/ready"), timeout=seconds(5))
                return answer.status_code, answer.json()["engine"]

            assert status() == (200, "ok")
            broker.kill()
            wait_until(lambda: status() == (503, "away"), 20, "the probe to notice")
            assert httpx.get(server.http("/health/live")).status_code == 200
            broker.start()
            wait_until(lambda: status() == (200, "ok"), 20, "it to be back")
