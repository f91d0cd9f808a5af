"""A client that was cut off resumes its session, whatever else is under way: what races and failures leave behind."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import ANY

import httpx
import pytest

from freshet import Freshet, History
from freshet.endpoints.socketio.resume import TAKEOVER, Resumption, new_pid
from freshet.endpoints.socketio.withdrawn import Withdrawn
from freshet.engines.memory import MemoryEngine
from freshet.errors import EngineUnavailable
from freshet.model.log import PublishOptions
from freshet.node.bus import Bus
from freshet.runtime.tasks import Tasks
from tests.endpoints.matrix import SECRET
from tests.races.agreement import assert_agreement
from tests.races.clients import SocketIOClient
from tests.races.world import ROOM, World, cut_and_resumes, in_room, running


def client_of(world: World) -> SocketIOClient:
    assert isinstance(world.client, SocketIOClient)
    return world.client


async def present(world: World) -> set[str]:
    return set(await world.engine.presence(ROOM))


async def test_a_client_that_resumes_before_its_old_connection_is_known_to_be_dead_stays_in_presence() -> None:
    async with running("socketio") as world:
        await in_room(world)
        before = client_of(world)
        again = SocketIOClient(world.doors, before.pid)
        again.known, before.gone = set(before.known), True
        await world.come(again)
        await world.rest()
        assert (again.resumed, again.sid, await present(world)) == (True, before.sid, {before.sid})
        await world.agree()


async def test_who_resumes_is_counted_as_one_that_came_back_once_however_many_rooms_it_has() -> None:
    async with running("socketio") as world:
        await in_room(world)
        assert sum(world.node.counts.returned.values()) == 0
        before = client_of(world)
        before.leave()
        await world.rest()
        again = SocketIOClient(world.doors, before.pid)
        again.known = set(before.known)
        await world.come(again)
        await world.rest()
        assert again.resumed
        assert [label for label, _ in world.node.counts.returned] == ["socketio"]
        assert sum(world.node.counts.returned.values()) == 1


async def test_a_client_that_resumed_on_another_node_stays_in_presence() -> None:
    async with running("socketio") as world:
        await in_room(world)
        client = client_of(world)
        await world.node.bus.handlers[TAKEOVER](client.pid.encode())
        await world.rest()
        assert client.closed
        assert await present(world) == {client.sid}  # which the other node renews
        assert len(world.node.presence) == 1  # the bystander


async def test_a_client_that_leaves_while_its_state_is_written_cannot_be_resumed() -> None:
    async with running("socketio") as world:
        await in_room(world)
        client = client_of(world)
        pid = client.pid
        world.gates.arm(0)
        assert client.session is not None
        writing = asyncio.create_task(client.session.record.resumption.remember(client.session))
        await world.turns()
        assert world.gates.held == "publish"
        client.leave_namespace()
        await world.turns()
        world.gates.release()
        await writing
        await world.rest()
        again = SocketIOClient(world.doors, pid)
        await world.come(again)
        assert (again.connected, again.resumed) == (True, False)


@pytest.mark.parametrize("call", ["set_presence", "subscribe"])
async def test_a_client_that_cannot_resume_as_the_engine_is_away_leaves_nothing_and_can_try_again(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    async with running("socketio") as world:
        await in_room(world)
        before = client_of(world)

        async def away(*arguments: object) -> None:
            raise EngineUnavailable("away")

        before.leave()
        await world.rest()
        monkeypatch.setattr(world.engine, call, away)
        first = SocketIOClient(world.doors, before.pid)
        await world.come(first)
        await world.rest()
        assert (first.connected, first.closed) == (False, True)
        monkeypatch.undo()
        assert_agreement(world.node, world.engine, world.clients)
        second = SocketIOClient(world.doors, before.pid)
        second.known = {ROOM}
        await world.come(second)
        await world.rest()
        assert (second.resumed, second.sid) == (True, before.sid)
        await world.agree()


async def test_a_connection_that_dies_while_it_resumes_does_not_end_the_one_behind_it() -> None:
    async with running("socketio") as world:
        await in_room(world)
        before = client_of(world)
        before.leave()
        await world.rest()
        world.gates.arm(0)
        dying = SocketIOClient(world.doors, before.pid)
        await world.come(dying)
        assert world.gates.held in ("on_connect", "history")
        dying.leave()
        await cut_and_resumes(world)
        world.gates.release()
        await world.rest()
        assert client_of(world).resumed
        assert client_of(world).is_open
        await world.agree()


async def test_a_secret_that_cannot_be_one_is_not_looked_for_among_the_logs() -> None:
    engine = MemoryEngine()
    resumption = Resumption(engine, Bus("node", engine), Tasks(), Withdrawn(engine, lambda: 60))
    for pid in ("x" * 60_000, new_pid()[:-1], new_pid() + "é"):
        assert await resumption.recall(pid, 60) is None
    assert not engine._logs


async def test_what_a_node_of_another_version_kept_is_nothing_to_go_on_with() -> None:
    engine, pid = MemoryEngine(), new_pid()
    resumption = Resumption(engine, Bus("node", engine), Tasks(), Withdrawn(engine, lambda: 60))
    kept = PublishOptions(history=History(1, 60))
    await engine.publish(f"\0recovery:{pid}", b'{"sid":"a","user":"b","rooms":{"c":["d",1]}}', kept)
    assert await resumption.recall(pid, 60) is None


POLLING = "/socket.io/?EIO=4&transport=polling"


class Pollers:
    """Clients of one server, each on a line of its own."""

    def __init__(self, live: Freshet, http: httpx.AsyncClient) -> None:
        self._live = live
        self._http = http

    async def connect(self, user: str, pid: str = "", **claims: Any) -> tuple[str, Any]:
        """The URL of its line, and what it is told as it connects."""
        url = f"{POLLING}&sid={json.loads((await self._http.get(POLLING)).text[1:])['sid']}"
        auth = json.dumps({"token": self._live.token(user, **claims), "pid": pid, "offset": ""})
        await self._http.post(url, content=f"40{auth}")
        return url, json.loads((await self._http.get(url)).text[2:])

    async def subscribe(self, url: str, channel: str) -> str:
        await self._http.post(url, content=f'421["subscribe","{channel}"]')
        return (await self._http.get(url)).text


@pytest.fixture
async def pollers() -> AsyncIterator[Pollers]:
    live = Freshet(secret=SECRET, environment={})
    live.namespace("/", recovery=60)
    live.channel("log:{name}", history=History(size=10, ttl=60))
    async with live.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(live), base_url="http://x") as http:
        yield Pollers(live, http)


async def test_nobody_resumes_the_session_of_another_user(pollers: Pollers) -> None:
    """Whoever learns the secret of a session still has to be its user."""
    _, alice = await pollers.connect("alice")
    _, mallory = await pollers.connect("mallory", alice["pid"])
    assert mallory["pid"] != alice["pid"]
    assert mallory["sid"] != alice["sid"]
    assert await pollers.connect("alice", alice["pid"]) == (ANY, alice)


async def test_who_resumes_is_asked_again_for_each_of_its_rooms(pollers: Pollers) -> None:
    may, may_not = ([{"channels": ["log:*"], "allow": [deed]}] for deed in ("subscribe", "publish"))
    url, alice = await pollers.connect("alice", caps=may)
    assert "error" not in await pollers.subscribe(url, "log:a")
    assert await pollers.connect("alice", alice["pid"], caps=may) == (ANY, alice)
    _, again = await pollers.connect("alice", alice["pid"], caps=may_not)
    assert again["pid"] != alice["pid"]
    assert again["sid"] != alice["sid"]
