"""A mistake stays where it was made: one client's, one function's or one transport's is nobody else's."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect

from freshet import Disconnect, Freshet, Refusal, Welcome
from freshet.config import parse
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.engines.memory import MemoryEngine
from freshet.errors import ConfigError
from freshet.model.frame import Frame
from freshet.model.log import History, Position, PublishOptions
from freshet.rules.hooks import Hook
from freshet.session.outbox import Outbox, Turn
from tests.session.test_session import Scene, code
from tests.tools.clients import soon
from tests.tools.patience import eventually
from tests.tools.serving import serving
from tests.tools.sessions import connected, dev, opened, say, taken

KEEP = History(size=5, ttl=60)


@pytest.fixture
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    tokens = {"anonymous": True}
    config = parse({"timing": request.param, "tokens": tokens, "channels": [{"match": "*", "presence": True}]})
    scene = Scene(config)
    async with scene.live.lifespan():
        scene.node.wheel.stop()
        yield scene


@pytest.mark.parametrize(
    "scene",
    [{"ping_interval": 1, "pong_timeout": 0.5}, {"ping_interval": 25, "pong_timeout": 24.5}],
    indirect=True,
)
async def test_a_client_without_pong_goes_even_if_the_next_heartbeat_is_due_in_the_same_tick(scene: Scene) -> None:
    session = scene.client()
    await scene.say(session, {"id": 1, "connect": {}})
    await scene.go(200)
    assert code(session) == 3012


def test_a_pong_timeout_as_long_as_the_interval_is_a_mistake_that_is_named() -> None:
    with pytest.raises(ConfigError, match=r"timing\.pong_timeout"):
        parse({"timing": {"ping_interval": 10, "pong_timeout": 10}})


@pytest.mark.parametrize("scene", [{"ping_interval": 3600}, {"ping_interval": 25, "presence_ttl": 5}], indirect=True)
async def test_a_client_stays_present_however_long_the_heartbeats_are_apart(scene: Scene) -> None:
    session = scene.client()
    await scene.say(session, {"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "a"}})
    for _ in range(200):
        await scene.go(1, session)
        assert list(await scene.live.presence("a")) == [session.id], scene.time


async def test_a_client_that_goes_while_the_function_for_connections_runs_is_held_by_nothing() -> None:
    live, gate = dev(), asyncio.Event()

    @live.on_connect
    async def slowly(session: Any) -> Welcome:
        await gate.wait()
        return Welcome(user="alice")

    async with live.lifespan():
        session = opened(live)
        session.receive(Frame(b'{"id":1,"connect":{}}'))
        await asyncio.sleep(0)
        session.end(Disconnect.normal())
        gate.set()
        await eventually(lambda: not session.busy)
        assert live._node.registry.users == 0
        assert not any(live._node.wheel._slots)


async def test_a_client_that_is_full_does_not_keep_a_users_other_clients_from_a_subscription() -> None:
    live = Freshet(
        config=parse(
            {"limits": {"channels_per_client": 1}, "tokens": {"anonymous": True}, "channels": [{"match": "*"}]}
        ),
        environment={},
    )
    live.on_connect(lambda session: Welcome(user="alice"))
    async with live.lifespan():
        full, free = await connected(live), await connected(live)
        await say(full, {"id": 2, "subscribe": {"channel": "other"}})
        with suppress(Refusal):
            await live.subscribe("alice", "news")
        assert "news" in free.subscriptions


@pytest.mark.parametrize("tags", [{"price": object()}, {"price": "\ud800"}])
async def test_a_publication_that_cannot_be_encoded_is_refused_and_stops_no_other_channel(tags: Any) -> None:
    live = dev()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    async with live.lifespan():
        session = await connected(live)
        await say(session, {"id": 2, "subscribe": {"channel": "a"}}, {"id": 3, "subscribe": {"channel": "b"}})
        with suppress(TypeError, ValueError):
            await live.publish("a", 1, tags=tags)
        await live.publish("b", 1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await live.publish("b", 2)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        received = [each["push"]["pub"]["data"] for each in taken(session) if "pub" in each.get("push", {})]
        assert received[-2:] == [1, 2]


async def test_a_transport_that_fails_to_wake_keeps_no_other_waiting() -> None:
    turn = Turn()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    broken, healthy = Outbox(turn, 1024), Outbox(turn, 1024)
    woken: list[int] = []

    def fail() -> None:
        raise RuntimeError("wake")

    broken.attach(fail)
    healthy.attach(lambda: woken.append(len(healthy.take())))
    for outbox in (broken, healthy):
        outbox.push(Frame(b"1"))
    await asyncio.sleep(0)
    healthy.push(Frame(b"2"))
    await asyncio.sleep(0)
    assert sum(woken) == 2


@pytest.mark.parametrize("number", [2**63, 2**70, -(2**70)])
async def test_numbers_beyond_any_log_are_harmless_in_history(number: int) -> None:
    engine = MemoryEngine()
    epoch = (await engine.publish("a", b"1", PublishOptions(history=KEEP))).epoch
    for since in (None, Position(epoch, number)):
        for limit in (-1, number):
            for reverse in (False, True):
                await engine.history("a", KEEP, since, limit, reverse)


@pytest.mark.parametrize("place", ["limit", "offset"])
async def test_a_client_with_a_huge_number_gets_no_internal_error(place: str) -> None:
    live = dev()
    async with live.lifespan():
        session = await connected(live)
        await live.publish("a", 1)
        history: Any = {"channel": "a", "limit": -1}
        if place == "limit":
            history["limit"] = 2**70
        else:
            history["since"] = {"offset": 2**70, "epoch": "x"}
        session.receive(Frame(json.dumps({"id": 2, "history": history}).encode()))
        await eventually(lambda: not session.busy)
        replies = taken(session)
        assert session.outbox.closed or replies[-1].get("error", {}).get("code") != 100


def test_a_payload_that_is_no_utf8_is_refused_in_a_binary_frame() -> None:
    frame = Frame(b'{"id":1,"publish":{"channel":"a","data":"\xff"}}', binary=True)
    with pytest.raises(Disconnect):
        Centrifuge().receive(frame)


async def test_nobody_can_end_the_others_with_a_publication_that_is_no_utf8() -> None:
    with serving("--dev") as server:
        url = server.ws("/connection/websocket")
        async with connect(url) as victim, connect(url) as attacker:
            for socket in (victim, attacker):
                await socket.send('{"id":1,"connect":{}}')
                await soon(socket.recv())
            await victim.send('{"id":2,"subscribe":{"channel":"a"}}')
            await soon(victim.recv())
            await attacker.send(b'{"id":2,"publish":{"channel":"a","data":"\xff"}}')
            await soon(attacker.wait_closed() if attacker.close_code else asyncio.sleep(0))
            async with connect(url) as other:
                await other.send('{"id":1,"connect":{}}\n{"id":2,"publish":{"channel":"a","data":"fine"}}')
                await soon(other.recv())
            while True:
                if '"fine"' in str(await soon(victim.recv())):
                    break


class Bid(msgspec.Struct):
    amount: int


async def test_a_hint_that_cannot_be_resolved_does_not_switch_off_the_type_of_data() -> None:
    def bid(session: "Unknown", data: Bid) -> None:  # type: ignore[name-defined]  # noqa: F821
        seen.append(data)

    seen: list[Any] = []
    with pytest.raises(Refusal):
        await Hook(bid, ("session", "data"))(None, b'{"amount": "many"}')
    await Hook(bid, ("session", "data"))(None, b'{"amount": 5}')
    assert seen == [Bid(5)]


def test_a_function_that_takes_by_name_what_it_is_given_by_position_is_refused_at_once() -> None:
    def bid(*, session: Any, data: Any) -> None: ...

    with pytest.raises(TypeError, match="session, data"):
        Hook(bid, ("session", "data"))


def test_a_type_that_nothing_converts_to_is_refused_at_once() -> None:
    class Odd:
        def __init__(self, number: int) -> None: ...

    def bid(session: Any, data: Odd) -> None: ...

    bid.__annotations__["data"] = Odd
    with pytest.raises(TypeError, match="data"):
        Hook(bid, ("session", "data"))


async def test_a_start_that_failed_is_not_taken_for_done(monkeypatch: pytest.MonkeyPatch) -> None:
    live = dev()

    async def fail() -> None:
        raise OSError("no disk")

    monkeypatch.setattr(live._node, "start", fail)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "root_path": ""}

    async def nothing(*message: Any) -> Any:
        return {"type": "http.request"}

    for _ in range(2):
        with pytest.raises(OSError, match="no disk"):
            await live(scope, nothing, nothing)
