"""What the server keeps for itself stands in the same engine as channels: no client reaches it, however wide a rule is.

Such logs hold what was revoked, which tickets were used, what runs have said in channels of others, and more.
"""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from centrifuge.protocol.client_pb2 import Command
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from freshet.model.frame import Frame
from tests.dialects.centrifuge.official import framed, messages, protobuf_of
from tests.tools.patience import seconds
from tests.tools.serving import Server, serving

CONFIG = """
[tokens]
anonymous = true
[api]
anonymous = true
[[channels]]
match = "{kind}:{name}"
history = { size = 10, ttl = 60 }
presence = true
publish = "client"
manage = "client"
read = "client"
[[channels]]
match = "*"
history = { size = 10, ttl = 60 }
presence = true
publish = "client"
manage = "client"
read = "client"
"""
NAMES = ["\0revocations", "\0ticket:a", "\0stream:open:a", "\0messages:ai:1", "\0"]
JSON = {"Content-Type": "application/json"}
COMMANDS: list[dict[str, Any]] = [
    {"subscribe": {}},
    {"subscribe": {"recover": True}},
    {"publish": {"data": {}}},
    {"history": {"limit": 10}},
    {"presence": {}},
    {"presence_stats": {}},
]
name = pytest.mark.parametrize("name", NAMES, ids=[each.strip("\0") or "none" for each in NAMES])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("own") / "freshet.toml"
    config.write_text(CONFIG)
    with serving("--config", str(config)) as server:
        yield server


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(10)) as http:
        yield http


@name
@pytest.mark.parametrize("command", COMMANDS, ids=[next(iter(each)) for each in COMMANDS])
async def test_no_command_of_centrifuge_reaches_one(server: Server, name: str, command: dict[str, Any]) -> None:
    [(method, fields)] = command.items()
    asked = {"id": 2, method: {"channel": name, **fields}}
    async with connect(server.ws("/connection/websocket")) as json_socket:
        await json_socket.send('{"id":1,"connect":{}}\n' + json.dumps(asked))
        text = ""
        while '"id":2' not in text:
            text += str(await json_socket.recv())
        assert '"error":{"code":102' in text
    async with connect(server.ws("/connection/websocket?format=protobuf")) as socket:
        await socket.send(framed(Command(id=1, connect={})) + protobuf_of(asked).data)
        replies = []
        while not any(reply.id == 2 for reply in replies):
            replies += messages(Frame(await socket.recv(decode=False), binary=True))
        assert next(reply.error.code for reply in replies if reply.id == 2) == 102


@name
async def test_no_url_reaches_one(http: httpx.AsyncClient, name: str) -> None:
    path, there = quote(name), {"Stream-Forked-From": f"/v1/stream/{quote(name)}"}
    for answer in (
        await http.get(f"/channels/{path}"),
        await http.get("/channels", params={"channel": name}),
        await http.get(f"/channels/{path}", params={"wait": 1}),
        await http.post(f"/channels/{path}", content="1"),
        await http.post(f"/rooms/{path}", content="1"),
        await http.put(f"/v1/stream/{path}", headers=JSON),
        await http.put(f"/v1/stream/open:{name[1:]}", headers={**JSON, **there}),
        await http.post(f"/v1/stream/{path}", headers=JSON, content="1"),
        await http.head(f"/v1/stream/{path}"),
        await http.delete(f"/v1/stream/{path}"),
        *[await http.get(f"/v1/stream/{path}?offset=-1{live}") for live in ("", "&live=long-poll", "&live=sse")],
    ):
        assert answer.status_code == 404, (answer.request.method, answer.request.url, answer.text)
    events = await http.get(f"/channels/{path}", headers={"Accept": "text/event-stream"})
    assert events.status_code == 404 or "102" in events.text
    commands = json.dumps({"id": 1, "connect": {}}) + "\n" + json.dumps({"id": 2, "subscribe": {"channel": name}})
    async with http.stream("GET", "/connection/sse", params={"cf_connect": commands}) as stream:
        got = ""
        async for chunk in stream.aiter_text():
            got += chunk
            if '"id":2' in got:
                break
    assert '"error":{"code":102' in got


@name
async def test_no_socket_reaches_one(server: Server, name: str) -> None:
    async with connect(server.ws(f"/channels/{quote(name)}")) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4602
    async with connect(server.ws("/socket.io/?EIO=4&transport=websocket")) as socket:
        await socket.recv()
        await socket.send("40")
        await socket.recv()
        for id, event in enumerate((["subscribe", name], ["publish", name, 1]), 1):
            await socket.send(f"42{id}{json.dumps(event)}")
            answer = str(await socket.recv())
            assert answer.startswith(f"43{id}")
            assert "102" in answer


async def test_what_was_revoked_and_what_a_stream_is_stay_as_they_are(http: httpx.AsyncClient) -> None:
    await http.post("/api/revoke", json={"user": "mallory"})
    assert (await http.put("/v1/stream/open:b", headers=JSON, content="[1]")).status_code == 201
    for method, path in (("DELETE", "/v1/stream/"), ("POST", "/v1/stream/"), ("POST", "/channels/")):
        for name in ("\0revocations", "\0stream:open:b"):
            await http.request(method, path + quote(name), headers=JSON, content="1")
    assert (await http.get("/v1/stream/open:b?offset=-1")).json() == [1]


@name
async def test_the_server_api_does_not_either(http: httpx.AsyncClient, name: str) -> None:
    for method, more in (("publish", {"data": 1}), ("history", {"limit": 1}), ("presence", {})):
        answer = (await http.post(f"/api/{method}", json={"channel": name, **more})).json()
        assert answer["error"]["code"] == 102, answer
