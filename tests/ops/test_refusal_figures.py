"""What is refused before it is a command: each is counted by what refused it, once."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ops.figures import figures
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server, serving

CONFIG = """
hosts = ["127.0.0.1"]
tokens = { anonymous = true }
metrics = { anonymous = true }
http = { head_timeout = 2 }
limits = { waiting_requests = 1, message_size = 1024, frame_size = 2048, packet_size = 2048 }
api = { key = "the key", body_size = 2048 }
[[channels]]
match = "log"
history = { size = 10, ttl = 60 }
publish = "client"
read = "client"
"""
LARGE = b"x" * 100_000
POSTS = ["/channels/log", "/connection/http_stream", "/emulation", "/socket.io/?EIO=4&transport=polling"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = Path(tmp_path_factory.mktemp("refusals"), "freshet.toml")
    config.write_text(CONFIG)
    with serving("--config", str(config)) as server:
        yield server


async def counted(server: Server, policy: str) -> float:
    return (await figures(server))("policy_refusals_total", policy=policy)


async def asked(server: Server, method: str, path: str, data: bytes = b"", **headers: str) -> int:
    async with httpx.AsyncClient(timeout=seconds(5)) as http:
        if "sid" not in path and "socket.io" in path:
            sid = (await http.get(server.http(path))).text.partition('"sid":"')[2].partition('"')[0]
            path = f"{path}&sid={sid}"
        return (await http.request(method, server.http(path), content=data, headers=headers)).status_code


@pytest.mark.parametrize(
    ("policy", "status", "method", "path", "data", "headers"),
    [
        ("host", 421, "GET", "/channels/log", b"", {"Host": "elsewhere.example"}),
        ("origin", 403, "GET", "/channels/log", b"", {"Origin": "https://elsewhere.example"}),
        ("key", 401, "POST", "/api/info", b"{}", {}),
        ("size", 413, "POST", "/api/info", LARGE, {"X-API-Key": "the key"}),
        ("http", 431, "GET", "/channels/log", b"", {"X-Long": "x" * 60_000}),
        *(("size", 413, "POST", path, LARGE, {}) for path in POSTS),
    ],
)
async def test_a_request_is_counted_by_what_refused_it(
    server: Server, policy: str, status: int, method: str, path: str, data: bytes, headers: dict[str, str]
) -> None:
    before = await counted(server, policy)
    assert await asked(server, method, path, data, **headers) == status
    assert await counted(server, policy) == before + 1


async def test_a_request_that_does_not_come_whole_is_counted(server: Server) -> None:
    before = await counted(server, "http")
    with socket.create_connection((server.host, server.port), seconds(5)) as end:
        end.sendall(b"GET /channels/log HTTP/1.1\r\nHost: 127.0.0.1\r\n")

        async def one_more() -> bool:
            return await counted(server, "http") == before + 1

        await eventually(one_more, 10, "its end")


async def test_a_request_that_may_not_wait_is_counted(server: Server) -> None:
    before = await counted(server, "waiting")
    async with httpx.AsyncClient(timeout=seconds(20)) as http:
        poll = asyncio.create_task(http.get(server.http("/channels/log?wait=60")))

        async def waits() -> bool:
            return (await figures(server))("clients") == 1

        await eventually(waits, 10, "the poll")
        assert await asked(server, "GET", "/channels/log?wait=60") == 503
        assert await counted(server, "waiting") == before + 1
        poll.cancel()
