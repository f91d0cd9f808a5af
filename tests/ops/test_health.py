"""What probes are told."""

import contextlib
from contextlib import AsyncExitStack

import httpx
from websockets.asyncio.client import connect

from tests.tools.patience import seconds
from tests.tools.serving import serving


def test_a_server_that_serves_is_alive_and_ready() -> None:
    with serving("--dev") as server:
        for path in ("/health/live", "/health/ready"):
            answer = httpx.get(server.http(path))
            assert answer.status_code == 200
            assert answer.headers["Cache-Control"] == "no-store"
        assert answer.json() == {"status": "ready"}


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
