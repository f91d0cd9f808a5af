"""A state on each client protocol: the official clients, unmodified, read it and write it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import socketio
from websockets.sync.client import connect

from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server, serving

CONFIG = """
[tokens]
anonymous = true
[[channels]]
match = "lobby:*"
state = {}
publish = "client"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("state")
    (folder / "freshet.toml").write_text(CONFIG)
    env = {"FRESHET_ROOMS__STORE": f"sqlite:///{folder / 'rooms.db'}"}
    with serving("--config", str(folder / "freshet.toml"), env=env) as server:
        yield server


def test_over_a_bare_websocket(server: Server) -> None:
    def received(socket: Any) -> Any:
        return json.loads(socket.recv(timeout=seconds(10)))

    url = server.ws("/channels/lobby:websocket")
    with connect(url) as alice:
        assert received(alice) == {"state": {}}
        alice.send('{"key": "a", "value": [1]}')
        assert received(alice) == {"key": "a", "value": [1]}
        with connect(url) as bob:
            assert received(bob) == {"state": {"a": [1]}}
            bob.send('{"key": "a", "removed": true}')
            assert received(alice) == received(bob) == {"key": "a", "removed": True}


def test_over_http_and_server_sent_events(server: Server) -> None:
    url = server.http("/channels/lobby:sse")
    events = {"Accept": "text/event-stream"}
    with httpx.Client(timeout=seconds(10)) as client, client.stream("GET", url, headers=events) as stream:
        lines = stream.iter_lines()

        def received() -> tuple[str, Any]:
            event = next(line for line in lines if line.startswith("event:"))
            data = next(line for line in lines if line.startswith("data:"))
            return event.partition(":")[2].strip(), json.loads(data.partition(":")[2])

        assert received()[0] == "subscribed"
        assert received() == ("snapshot", {"state": {}})
        assert client.post(url, json={"key": "n", "add": 2}).is_success
        assert received() == ("state", {"key": "n", "value": 2})
        refused = client.post(url, json={"key": "n", "value": 5, "expect": 7})
        assert (refused.status_code, refused.json()["code"]) == (409, 4620)
        assert client.post(url, json={"key": "n", "value": 5, "expect": 2}).is_success
        assert received() == ("state", {"key": "n", "value": 5})


APPLICATION = """
from freshet import Freshet

live = Freshet.from_config("freshet.toml")
live.state("lobby:{id}", publish="client")
main = live.namespace("/")

@main.on("enter")
async def enter(socket, room):
    await socket.join(room)

@live.on_connect
async def anybody(session):
    pass
"""


async def test_over_socket_io(tmp_path: Path) -> None:
    (tmp_path / "freshet.toml").write_text('[tokens]\nanonymous = true\n[rooms]\nstore = "sqlite:///rooms.db"\n')
    (tmp_path / "application.py").write_text(APPLICATION)
    with serving("application:live", cwd=tmp_path) as server:
        got: list[tuple[str, Any]] = []
        async with socketio.AsyncSimpleClient() as plain:
            await plain.connect(server.http(""))
            await asyncio.wait_for(plain.call("enter", "lobby:io"), seconds(10))
            assert await plain.receive(seconds(10)) == ["snapshot", {"state": {}}]
            with connect(server.ws("/channels/lobby:io")) as other:
                other.recv(timeout=seconds(10))
                other.send('{"key": "a", "value": 1}')
                got.append(tuple(await plain.receive(seconds(10))))  # type: ignore[arg-type]
        await eventually(lambda: got == [("state", {"key": "a", "value": 1})])
