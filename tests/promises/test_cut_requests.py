"""A request whose client goes before its body is complete has said nothing: half of it is not taken for the whole.

Nothing is published, no stream is made or closed without its last message, no room is asked, no session is ended.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from freshet import Freshet, History, HttpRequest, Room, Run
from freshet.config import Config, Rooms
from tests.promises.test_weaknesses import connection
from tests.tools.asgi import knock
from tests.tools.patience import seconds
from tests.transports.shells import SHELLS, shell

JSON = {"content-type": "application/json"}
CLOSING = {**JSON, "stream-closed": "true"}
REQUESTS: list[tuple[str, str, dict[str, str]]] = [
    ("POST", "/channels/log:a", {}),
    ("POST", "/channels/log:a", {"content-type": "application/octet-stream"}),
    ("POST", "/channels/log:a", JSON),
    ("POST", "/channels/ai:1", {}),
    ("PUT", "/v1/stream/log:new", JSON),
    ("POST", "/v1/stream/log:stream", JSON),
    ("POST", "/v1/stream/log:stream", CLOSING),
    ("POST", "/v1/stream/log:stream", {"stream-closed": "true"}),
    ("POST", "/rooms/room:a", {}),
    ("POST", "/ai/ai", JSON),
    ("POST", "/ag-ui/ai", JSON),
    ("POST", "/openai/ai/v1/chat/completions", JSON),
    ("POST", "/openai/ai/v1/responses", JSON),
    ("POST", "/connection/http_stream", {}),
    ("POST", "/emulation", JSON),
    ("POST", "/api/publish", JSON),
    ("POST", "/@connections", JSON),
    ("POST", "/dev/@connections/AAAAAAAAAAAAAAA=", {}),
]
BODIES = [b"", b"1", b"[1,", b'{"channel":"log:a","data":1}']

app = Freshet(dev=True, environment={})
app.channel("log:{name}", history=History(size=10, ttl=60), publish="client", manage="client")

asked: list[Any] = []


class Asked(Room):
    async def on_request(self, request: HttpRequest) -> str:
        asked.append(request.body)
        return "answer"


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    asked.clear()
    live = Freshet(dev=True, environment={}, config=Config(rooms=Rooms(store="memory://")))
    live.room("room:{name}")(Asked)
    live.channel("log:{name}", history=History(size=10, ttl=60), publish="client", manage="client")
    live.gateway(stage="dev", routes=[{"key": "$default", "mock": "1", "response": True}])

    @live.run("ai:{chat}", publish="client")
    async def answer(run: Run, message: Any, chat: str) -> None:
        asked.append(message)

    async with live.lifespan():
        yield live


async def cut(live: Freshet, method: str, path: str, headers: dict[str, str], body: bytes) -> list[Any]:
    """What is sent to a client that goes within its body."""
    target, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": target,
        "root_path": "",
        "query_string": query.encode(),
        "http_version": "1.1",
        "scheme": "http",
        "headers": [(name.encode(), value.encode()) for name, value in {"host": "localhost", **headers}.items()],
        "client": ("127.0.0.1", 1234),
        "server": ("localhost", 80),
    }
    coming = [{"type": "http.request", "body": body, "more_body": True}] if body else []
    sent: list[Any] = []

    async def receive() -> Any:
        return coming.pop(0) if coming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await asyncio.wait_for(live(scope, receive, send), seconds(5))
    return sent


@pytest.mark.parametrize("body", BODIES, ids=["nothing", "a digit", "half", "all but its end"])
@pytest.mark.parametrize(("method", "path", "headers"), REQUESTS)
async def test_half_of_a_request_does_nothing(
    live: Freshet, method: str, path: str, headers: dict[str, str], body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await knock(live, "PUT", "/v1/stream/log:stream", JSON)
    assert await cut(live, method, path, headers, body) == []
    assert (await live.history("log:a", limit=10)).publications == []
    assert (await knock(live, "GET", "/v1/stream/log:new")).status == 404
    stream = await knock(live, "GET", "/v1/stream/log:stream")
    assert (stream.body, stream.headers.get("stream-closed")) == (b"[]", None)
    assert asked == []
    assert list(live._node.registry) == []
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


async def test_half_of_a_poll_of_socketio_ends_no_session(live: Freshet) -> None:
    opened = await knock(live, "GET", "/socket.io/?EIO=4&transport=polling")
    url = f"/socket.io/?EIO=4&transport=polling&sid={json.loads(opened.body[1:])['sid']}"
    for body in (b"", b"4", b"40\x1e4"):
        assert await cut(live, "POST", url, {}, body) == []
    assert (await knock(live, "POST", url, {}, b"40")).status == 200
    assert (await knock(live, "GET", url)).body.startswith(b"40{")


@pytest.mark.parametrize("host", SHELLS)
async def test_a_connection_that_is_cut_within_a_request_does_nothing(tmp_path: Path, host: str) -> None:
    with shell(host, "tests.promises.test_cut_requests:app", tmp_path) as server:
        async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(10)) as http:
            assert (await http.put("/v1/stream/log:b", headers=JSON)).status_code == 201
            for framing in (b"Content-Length: 9\r\n\r\n[1,", b"Transfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n"):
                for path, headers in (
                    (b"/channels/log:a", b"Content-Type: text/plain\r\n"),
                    (b"/channels/log:a", b"Content-Type: application/json\r\n"),
                    (b"/v1/stream/log:b", b"Content-Type: application/json\r\nStream-Closed: true\r\n"),
                ):
                    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\n%b%b" % (path, headers, framing)
                    async with connection(server, head) as (_, out):
                        await out.drain()
                        await asyncio.sleep(seconds(0.05))  # until it has been read
            assert (await http.post("/channels/log:a", content="last")).status_code == 200
            page = (await http.get("/channels/log:a?since=oldest")).json()
            assert [each["data"] for each in page["publications"]] == ["last"]
            assert "stream-closed" not in (await http.get("/v1/stream/log:b")).headers
