"""The client without a network, in what a test of an application seldom needs; the rest is in test_testing.py."""

import asyncio
from typing import Any

import msgspec
import pydantic
import pytest

from freshet import Disconnect, Freshet, History, Position, Refusal, Session, Welcome
from freshet.config import Config, Limits
from freshet.endpoints.in_process import HeldLifespan, settle
from freshet.testing.gateway import GatewayClient
from tests.tools.patience import eventually


def application() -> Freshet:
    live = Freshet(dev=True, environment={})
    live.channel("log:{name}", history=History(size=100, ttl=60), presence=True, publish="client")
    return live


async def test_a_message_that_wants_no_reply_reaches_its_function_before_the_client_goes_on() -> None:
    live, got = application(), list[tuple[str, Any]]()

    @live.on_message
    async def message(session: Session, data: Any) -> None:
        got.append((session.user, data))

    async with live.test_client("alice") as alice:
        await alice.send({"n": 1})
        assert got == [("alice", {"n": 1})]


async def test_an_end_that_a_message_brings_is_raised_by_what_comes_next() -> None:
    live = application()

    @live.on_message
    async def message(session: Session, data: Any) -> None:
        await session.disconnect(Disconnect(4501, "enough"))

    async with live.test_client("alice") as alice:
        await alice.send(None)
        for again in (alice.publish("log:a", 1), alice.send(1), alice.receive()):
            with pytest.raises(Disconnect) as why:
                await again
            assert (why.value.code, why.value.reason) == (4501, "enough")


async def test_history_is_read_from_a_place_and_up_to_a_limit() -> None:
    live = application()
    async with live.test_client("alice") as alice:
        await alice.subscribe("log:a")
        places = [await live.publish("log:a", number) for number in range(5)]
        assert [it.data for it in await alice.history("log:a", since=places[1])] == [2, 3, 4]
        assert [it.data for it in await alice.history("log:a", since=places[1], limit=2)] == [2, 3]
        assert await alice.history("log:a", limit=0) == []


async def test_after_an_unsubscription_nothing_comes_and_a_reconnect_does_not_subscribe_again() -> None:
    live = application()
    async with live.test_client("alice") as alice:
        await alice.subscribe("log:a")
        await alice.subscribe("log:b")
        await alice.unsubscribe("log:a")
        await live.publish("log:a", 1)
        await alice.expect_nothing()
        await alice.reconnect()
        assert await live.channels() == {"log:b": 1}


async def test_a_subscription_that_the_server_ended_is_not_made_again_by_a_reconnect() -> None:
    live = application()
    async with live.test_client("alice") as alice:
        await alice.subscribe("log:a")
        await live.unsubscribe("alice", "log:a")
        await alice.event("unsubscribe")
        await alice.reconnect()
        assert await live.channels() == {}


async def test_a_reconnect_recovers_where_the_last_publication_was_and_not_where_it_subscribed() -> None:
    live = application()
    async with live.test_client("alice") as alice:
        await alice.subscribe("log:a")
        for number in range(3):
            await live.publish("log:a", number)
            assert (await alice.receive()).data == number
        await alice.disconnect()
        await live.publish("log:a", 3)
        await alice.connect()
        assert (await alice.receive()).data == 3
        await alice.expect_nothing()


async def test_a_publication_is_received_by_its_channel_and_the_others_wait() -> None:
    live = application()
    async with live.test_client("alice") as alice:
        for channel in ("log:a", "log:b"):
            await alice.subscribe(channel)
            await live.publish(channel, channel, tags={"event": "price"})
        second = await alice.receive("log:b")
        assert (second.channel, second.data, second.tags, second.info) == ("log:b", "log:b", {"event": "price"}, None)
        assert (await alice.receive()).channel == "log:a"


async def test_a_hook_sees_the_headers_and_the_data_that_a_client_brings() -> None:
    live, seen = application(), list[Any]()

    @live.on_connect
    async def greet(session: Session, data: Any, request: Any) -> Welcome:
        seen.extend([data, request.headers["x-tenant"], request.client])
        return Welcome(user="guest")

    async with live.test_client(data={"a": 1}, headers={"x-tenant": "blue"}) as guest:
        assert seen == [{"a": 1}, "blue", "testclient"]
        await guest.subscribe("log:a")
        assert [it["user"] for it in (await guest.presence("log:a")).values()] == ["guest"]


async def test_a_refusal_says_whether_to_try_again() -> None:
    live = application()

    @live.rpc("busy")
    async def busy(session: Session, data: Any) -> None:
        raise Refusal.too_many_requests("later")

    async with live.test_client("alice") as alice:
        with pytest.raises(Refusal) as why:
            await alice.rpc("busy")
        assert (why.value.code, why.value.message, why.value.temporary) == (111, "later", True)
        with pytest.raises(Refusal) as why:
            await alice.rpc("unknown")
        assert (why.value.code, why.value.temporary) == (104, False)


async def test_a_subscription_from_a_place_of_another_log_is_not_recovered() -> None:
    live = application()
    async with live.test_client("alice") as alice:
        place = await live.publish("log:a", 1)
        result = await alice.subscribe("log:a", since=Position("another", place.offset))
        assert (result.recovered, result.missed, result.position) == (False, [], place)


async def test_a_client_that_cannot_connect_does_not_keep_the_application_running() -> None:
    live = application()
    with pytest.raises(Disconnect):
        async with live.test_client(token="wrong"):
            pass
    assert not live._lifecycle.has_begun


@pytest.mark.parametrize("runs", [True, False])
async def test_what_does_not_run_anyway_runs_until_the_last_client_has_left(runs: bool) -> None:
    live = application()
    held = HeldLifespan(live.lifespan, lambda: runs)
    states: list[bool] = []

    async def quiet() -> None:
        """What a client does as it comes and goes."""

    for step in (held.enter, held.enter, held.leave, held.leave, held.enter, held.leave):
        await step(quiet)
        states.append(live._lifecycle.has_begun)
    assert states == ([False] * 6 if runs else [True, True, True, False, True, False])


async def test_all_kinds_of_clients_hold_one_lifespan() -> None:
    live = application()
    live.gateway(stage="dev").route("$default")(lambda connection, data: None)
    first, second = GatewayClient(live), GatewayClient(live)
    async with live.test_client("alice") as alice:
        async with first:
            await second.__aenter__()
        assert live._node.state == "ready"
        await alice.disconnect()
    assert live._node.state == "ready"
    await second.__aexit__(None, None, None)
    assert not live._lifecycle.has_begun


async def test_a_client_that_does_not_get_in_holds_nothing() -> None:
    live = application()
    held = HeldLifespan(live.lifespan, lambda: False)

    async def fail() -> None:
        assert live._lifecycle.has_begun
        raise Refusal.permission_denied()

    with pytest.raises(Refusal):
        await held.enter(fail)
    assert not live._lifecycle.has_begun


class Line(msgspec.Struct):
    text: str


class Order(pydantic.BaseModel):
    name: Any


HALF = "hi \ud83d"


def echoing(got: list[Any]) -> Freshet:
    """What comes to its hooks is noted, or goes back."""
    live = application()
    plain, typed, quiet = (live.channel(name + ":{n}", publish="client") for name in ("plain", "typed", "quiet"))

    @live.on_connect
    async def connected(session: Session, data: Any) -> Welcome:
        got.append(data)
        return Welcome(user="alice", info={"cut": HALF}, data=[data])

    @plain.on_subscribe
    async def subscribed(session: Session, data: Any) -> None:
        got.append(data)

    @plain.on_publish
    async def published(session: Session, data: Any, n: str) -> Any:
        return {"was": data}

    @typed.on_publish
    async def published_line(session: Session, data: Line, n: str) -> Line:
        return Line(data.text * 2)

    @quiet.on_publish
    async def refused(session: Session, data: Any, n: str) -> None:
        raise Refusal(1000, f"not {data}")

    @live.rpc("echo")
    async def echo(session: Session, data: Any) -> Any:
        return [data, float("nan")]

    @live.rpc("order")
    async def order(session: Session, data: Order) -> Order:
        return data

    return live


async def test_half_of_a_character_reaches_every_hook_and_comes_back() -> None:
    """A text that was cut within an emoji is one to Python: what `json.loads` makes of it."""
    got: list[Any] = []
    live = echoing(got)
    async with live.test_client("alice", data=HALF) as alice:
        assert alice.data == [HALF]
        await alice.subscribe("plain:1", data={HALF: HALF})
        await alice.subscribe("typed:1")
        await alice.publish("plain:1", HALF)
        received = await alice.receive()
        assert received.data == {"was": HALF}
        assert received.info is not None
        assert received.info["conn_info"] == {"cut": HALF}
        await alice.publish("typed:1", {"text": HALF})
        assert (await alice.receive()).data == {"text": HALF * 2}
        assert await alice.rpc("echo", HALF) == [HALF, None]
        assert await alice.rpc("order", {"name": HALF}) == {"name": HALF}
        with pytest.raises(Refusal) as why:
            await alice.publish("quiet:1", HALF)
        assert why.value.message == "not hi ?"
        with pytest.raises(Refusal):
            await alice.publish("typed:1", {"text": [HALF]})
        await live.publish("plain:1", {"server": HALF})
        assert (await alice.receive()).data == {"server": HALF}
        assert got == [HALF, {HALF: HALF}]


async def test_an_event_of_socketio_may_hold_half_of_a_character() -> None:
    live = application()
    seen: list[Any] = []
    shop = live.namespace("/shop")

    @shop.on("line")
    async def line(session: Session, text: str, order: Order, more: Any = None) -> Any:
        seen.append((text, order.name, more))
        return text, more

    hook = shop.events["line"]
    raw = [msgspec.Raw(each) for each in (rb'"\ud83d"', rb'{"name":"\uDE00"}', b"[1e999]")]
    assert await hook(None, raw) == ("\ud83d", [float("inf")])
    assert await hook(None, ["\ud83d", {"name": "\ude00"}, b"bytes"]) == ("\ud83d", b"bytes")
    assert seen == [("\ud83d", "\ude00", [float("inf")]), ("\ud83d", "\ude00", b"bytes")]
    for wrong in (b"7", b"1" * 5000, b"[" * 2000 + b"]" * 2000):
        with pytest.raises(Refusal, match="text: "):
            await hook(None, [msgspec.Raw(wrong), raw[1]])


async def test_the_application_listens_to_what_is_published_from_then_on_whoever_may_subscribe() -> None:
    live = application()
    live.channel("closed:{name}", subscribe="nobody")
    async with live.lifespan():
        for channel in ("log:a", "closed:a"):
            await live.publish(channel, "before")
            listening = live.listen(channel)
            first = asyncio.ensure_future(anext(listening))
            await eventually(lambda channel=channel: live._node.hub.channels().get(channel))  # type: ignore[misc]
            await live.publish(channel, {"number": 1})
            await live.publish(channel, {"number": 2})
            got = [await first, await anext(listening)]
            assert [msgspec.json.decode(each.data) for each in got] == [{"number": 1}, {"number": 2}]
            await listening.aclose()
            await eventually(lambda channel=channel: channel not in live._node.hub.channels())  # type: ignore[misc]


async def test_who_listens_is_in_no_presence_and_asks_no_hook() -> None:
    live = application()
    asked: list[str] = []
    room = live.channel("room:{name}", presence=True, join_leave=True)

    @room.on_subscribe
    async def may_join(session: Session, name: str) -> None:
        asked.append(name)

    async with live.lifespan():
        listening = live.listen("room:a")
        first = asyncio.ensure_future(anext(listening))
        await eventually(lambda: live._node.hub.channels().get("room:a"))
        assert await live.presence("room:a") == {}
        await live.publish("room:a", 1)
        assert (await first).data == b"1"
        assert asked == []
        await listening.aclose()


async def test_listening_where_no_rule_matches_is_refused_and_ends_with_the_node() -> None:
    live = Freshet(secret="s" * 32)
    live.channel("log:{name}")
    async with live.lifespan():
        with pytest.raises(Refusal) as refusal:
            await anext(live.listen("unknown"))
        assert refusal.value.code == 102
        listening = live.listen("log:a")
        first = asyncio.ensure_future(anext(listening))
        await eventually(lambda: live._node.hub.channels().get("log:a"))
    with pytest.raises(Disconnect):
        await first


async def test_who_listens_and_does_not_keep_up_is_disconnected() -> None:
    live = Freshet(secret="s" * 32, config=Config(limits=Limits(outbox=10_000)))
    live.channel("log:{name}")
    async with live.lifespan():
        listening = live.listen("log:a")
        first = asyncio.ensure_future(anext(listening))
        await eventually(lambda: live._node.hub.channels().get("log:a"))
        await live.publish("log:a", "first")
        assert (await first).data == b'"first"'
        for _ in range(20):
            await live.publish("log:a", "x" * 1000)
            await settle()  # what comes in one turn is one message
        with pytest.raises(Disconnect) as end:
            async for _ in listening:
                pass
        assert end.value.code == 3008
