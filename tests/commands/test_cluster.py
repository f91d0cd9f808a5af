"""What several nodes hold together, as any of them tells it."""

from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.tools.nats import nats
from tests.tools.patience import seconds, wait_until
from tests.tools.redis import redis
from tests.tools.serving import Server, serving


@pytest.fixture(params=[redis, nats], ids=["redis", "nats"])
def nodes(request: pytest.FixtureRequest) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        url = stack.enter_context(request.param()).url
        yield [stack.enter_context(serving("--dev", env={"FRESHET_ENGINE": url})) for _ in range(3)]


def ask(server: Server, method: str, **params: Any) -> dict[str, Any]:
    result: dict[str, Any] = httpx.post(server.http(f"/api/{method}"), json=params, timeout=seconds(20)).json()[
        "result"
    ]
    return result


def held(server: Server) -> list[int]:
    """The clients of each node, that of the server first."""
    return [node["num_clients"] for node in ask(server, "info")["nodes"]]


async def test_any_node_tells_what_all_of_them_hold(nodes: list[Server]) -> None:
    one, two, three = nodes
    async with AsyncExitStack() as stack:
        for number, server in enumerate(nodes):
            for _ in range(number + 1):
                await stack.enter_async_context(connect(server.ws("/channels/news")))
        wait_until(lambda: [held(server)[0] for server in nodes] == [1, 2, 3], 10, "all clients")
        assert [sorted(held(server)) for server in nodes] == [[1, 2, 3]] * 3
        assert ask(two, "channels")["channels"] == {"news": {"num_clients": 6}}
        assert ask(two, "channels", pattern="old*")["channels"] == {}
        three.kill()
        wait_until(lambda: held(one) == [1, 2], 20, "the dead one to be forgotten")
    two.stop()
    assert len(held(one)) == 1
