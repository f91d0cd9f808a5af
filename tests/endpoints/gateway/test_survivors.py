"""`$disconnect` once for each connection, though its client, or its whole node, is killed."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from freshet.config import Config
from freshet.endpoints.gateway.events import Facts
from freshet.endpoints.gateway.survivors import OPENED, OpenedMessage, Survivors
from freshet.engines.base import Lease
from freshet.engines.memory import MemoryEngine
from freshet.node.node import Node
from tests.tools.nats import nats
from tests.tools.patience import eventually, seconds, wait_until
from tests.tools.redis import redis
from tests.tools.serving import Server

APP = """
from freshet import Freshet
live = Freshet.from_config("freshet.toml")
"""
LATE = """
from fastapi import FastAPI
from app import live
api = FastAPI(lifespan=live.lifespan)

@api.post("/begin")
async def begin():
    import routes

api.mount("/", live)
"""
ROUTES = """
import json, os
from app import live
gateway = live.gateway(stage="dev", lease=1.5)

def note(kind, connection, **more):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(json.dumps([kind, connection.id, more]) + "\\n")

@gateway.route("$connect")
def connect(connection):
    note("connect", connection)

@gateway.route("$disconnect")
def disconnect(connection, event, code):
    note("disconnect", connection, code=code, ip=event["requestContext"]["identity"]["sourceIp"])

@gateway.route("id")
def id(connection, data):
    return connection.id
"""
CLIENT = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1]) as socket:
    socket.send('{"action":"id"}')
    print(socket.recv(), flush=True)
    socket.recv()
"""

Serve = Callable[..., Server]


class Place:
    """Nodes that share a Redis, and what their routes noted."""

    def __init__(self, folder: Path, serve: Serve, url: str) -> None:
        self._folder = folder
        self._serve = serve
        for name, text in (("app", APP), ("routes", ROUTES), ("late", LATE)):
            (folder / f"{name}.py").write_text(text)
        (folder / "freshet.toml").write_text(f'engine = "{url}"\n[tokens]\nanonymous = true\n')

    def node(self, application: str = "routes:live") -> Server:
        """application: `late:api` has its routes when somebody has asked for them."""
        return self._serve(application, cwd=self._folder, env={"NOTES": str(self._folder / "notes")})

    def noted(self, kind: str) -> list[tuple[str, dict[str, object]]]:
        lines = [json.loads(line) for line in (self._folder / "notes").read_text().splitlines()]
        return [(id, more) for noted, id, more in lines if noted == kind]

    def gone(self, count: int) -> Counter[str]:
        wait_until(lambda: len(self.noted("disconnect")) >= count, 20, f"{count} times $disconnect")
        return Counter(id for id, _ in self.noted("disconnect"))


@pytest.fixture(params=[redis, nats], ids=["redis", "nats"])
def place(request: pytest.FixtureRequest, tmp_path: Path, serve: Serve) -> Iterator[Place]:
    with request.param() as server:
        yield Place(tmp_path, serve, server.url)


def clients(server: Server, count: int) -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen([sys.executable, "-c", CLIENT, server.ws("/dev")], stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]


def ids(started: list[subprocess.Popen[str]]) -> list[str]:
    return [each.stdout.readline().strip() for each in started if each.stdout is not None]


def end(started: list[subprocess.Popen[str]]) -> None:
    for each in started:
        each.kill()
        each.wait(seconds(10))
        if each.stdout is not None:
            each.stdout.close()


def test_a_client_that_is_killed_leaves_once(place: Place) -> None:
    server = place.node()
    started = clients(server, 2)
    try:
        known = ids(started)
        started[0].kill()
        assert place.gone(1) == {known[0]: 1}
        assert place.noted("disconnect")[0][1] == {"code": 1006, "ip": "127.0.0.1"}
    finally:
        end(started)
    assert place.gone(2) == dict.fromkeys(known, 1)


def test_of_a_node_that_is_killed_another_tells_once_for_each(place: Place) -> None:
    dying, *others = (place.node() for _ in range(3))
    started = clients(dying, 3)
    try:
        known = ids(started)
        with connect(others[0].ws("/dev")) as stays:
            stays.send('{"action":"id"}')
            own = str(stays.recv(timeout=seconds(5)))
            dying.kill()
            assert place.gone(3) == dict.fromkeys(known, 1)
            late = place.node()  # who comes now knows nothing of them
            with connect(late.ws("/dev")):
                pass
            assert place.gone(4)[own] == 0
            stays.send('{"action":"id"}')
            assert stays.recv(timeout=seconds(5)) == own
    finally:
        end(started)
    assert set(place.gone(5).values()) == {1}


@pytest.mark.parametrize("place", [redis], ids=["redis"], indirect=True)
def test_so_it_does_on_nodes_that_got_their_routes_after_their_start(place: Place) -> None:
    dying, other = (place.node("late:api") for _ in range(2))
    for server in (dying, other):
        httpx.post(server.http("/begin")).raise_for_status()
    started = clients(dying, 2)
    try:
        known = ids(started)
        dying.kill()
        assert place.gone(2) == dict.fromkeys(known, 1)
        with connect(other.ws("/dev")):
            pass
        assert set(place.gone(3).values()) == {1}
    finally:
        end(started)


def test_a_node_that_stops_tells_for_all_its_clients_itself(place: Place) -> None:
    stopping, other = place.node(), place.node()
    started = clients(stopping, 3)
    try:
        known = ids(started)
        stopping.stop()
        assert place.gone(3) == dict.fromkeys(known, 1)
        assert {more["code"] for _, more in place.noted("disconnect")} == {1001}
        with connect(other.ws("/dev")):
            pass
        assert set(place.gone(4).values()) == {1}
    finally:
        end(started)


def test_a_node_that_stood_still_does_not_tell_again_and_its_clients_come_back(place: Place) -> None:
    """The others told meanwhile, as nobody could know that it would wake."""
    still, _other = place.node(), place.node()
    with connect(still.ws("/dev")) as socket:
        socket.send('{"action":"id"}')
        known = str(socket.recv(timeout=seconds(5)))
        os.kill(still.pid, signal.SIGSTOP)
        try:
            assert place.gone(1) == {known: 1}
        finally:
            os.kill(still.pid, signal.SIGCONT)
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=seconds(10))
    still.wait_for_log("stood still", 10)
    with connect(still.ws("/dev")) as again:
        again.send('{"action":"id"}')
        late = str(again.recv(timeout=seconds(5)))
    assert place.gone(2) == {known: 1, late: 1}


class LeasedEngine(MemoryEngine):
    """One that nodes share, and that notes who asks for which lease."""

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def take_lease(self, name: str, owner: str, ttl: float) -> Lease:
        self.asked.append(name)
        return await super().take_lease(name, owner, ttl)


@pytest.mark.parametrize("enabled", [True, False])
async def test_only_a_node_with_a_websocket_api_takes_part(enabled: bool) -> None:
    engine = LeasedEngine()
    node = Node(Config(), engine)

    async def tell(facts: Facts) -> None:
        raise AssertionError("nobody died")

    Survivors(node, 1.5, lambda: enabled, list, tell, lambda: None)
    await node.start()
    await node.stop()
    assert engine.asked == [f"gateway:{node.id}"] * enabled


@pytest.mark.parametrize("first", ["its own client", "a client of another node"])
async def test_a_node_whose_first_route_comes_after_its_start_takes_part_from_then_on(first: str) -> None:
    engine = LeasedEngine()
    node = Node(Config(), engine)
    routes: list[str] = []
    told: list[Facts] = []

    async def tell(facts: Facts) -> None:
        told.append(facts)

    survivors = Survivors(node, 1.5, lambda: bool(routes), list, tell, lambda: None)
    await node.start()
    assert engine.asked == []
    routes.append("chat")
    facts = Facts("connection", 0, "example.org", "10.0.0.1")
    if first == "its own client":
        await survivors.opened(facts)
    else:
        message = OpenedMessage("another", [facts])
        await node.bus.handlers[OPENED](msgspec.msgpack.encode(message))
        await eventually(lambda: told, 5, "the other, which holds no lease, to be found dead")
        assert told == [facts]
    assert engine.asked[0] == f"gateway:{node.id}"
    await node.stop()
