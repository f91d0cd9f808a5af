"""The application decides over HTTP: what it is shown, what its answers do; and no wrong answer lets anybody in."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from freshet import Freshet
from freshet.config import parse
from freshet.endpoints.in_process import Client
from freshet.errors import ConfigError, Disconnect, Refusal
from freshet.testing import ManualClock
from tests.policy.receiver import Receiver, receiving
from tests.tools.asgi import knock
from tests.tools.patience import eventually, seconds

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
Reply = tuple[int, bytes, dict[str, str]]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        receiver.answers = [(200, b"{}", {})]
        yield receiver


def configuration(url: str | None, *events: str, **rule: Any) -> dict[str, Any]:
    webhooks = {"secret": SECRET, "events": list(events), "headers": ["Cookie"], "timeout": seconds(5)}
    rules = [{"match": "room:{name}", "publish": "subscriber", "presence": True, **rule}] if rule else []
    return {
        "webhooks": webhooks | ({"url": url} if url else {}),
        "tokens": {"secret": "s" * 32, "anonymous": "connect" not in events},
        "channels": rules,
    }


@asynccontextmanager
async def deciding(receiver: Receiver, *events: str, **rule: Any) -> AsyncIterator[Freshet]:
    live = Freshet(config=parse(configuration(receiver.url, *events, **rule)), environment={})
    async with live.lifespan():
        yield live


def says(receiver: Receiver, answer: object, status: int = 200) -> None:
    receiver.answers = [(status, json.dumps(answer).encode(), {})]


def asked(receiver: Receiver, kind: str) -> list[dict[str, Any]]:
    """The data of all requests of one kind."""
    bodies = [json.loads(body) for _, body in receiver.requests]
    return [body["data"] for body in bodies if body["type"] == kind]


# -------------------------------------------------------------------------------------------------------------- connect


async def test_the_application_is_shown_who_connects_and_says_who_it_is(receiver: Receiver) -> None:
    says(receiver, {"user": "alice", "info": {"name": "Alice"}, "data": {"hello": 1}, "expires": 4e9})
    headers = {"cookie": "session=1", "x-other": "not shown"}
    async with deciding(receiver, "connect") as live, live.test_client(data={"x": 1}, headers=headers) as client:
        session = next(iter(live._node.registry))
        assert (session.user, session.expires) == ("alice", 4e9)
        assert json.loads(bytes(session.info)) == {"name": "Alice"}
        (shown,) = asked(receiver, "client.connect")
        assert (shown["headers"], shown["data"], shown["node"]) == ({"cookie": "session=1"}, {"x": 1}, live._node.id)
        assert client.id == shown["client"]


@pytest.mark.parametrize("url", ["/channels/room:a", "/channels?channel=room:a&channel=room:b"])
async def test_the_application_is_shown_the_kind_of_a_client_and_not_where_it_is_in_memory(
    receiver: Receiver, url: str
) -> None:
    says(receiver, {"user": "alice"})
    async with deciding(receiver, "connect", subscribe="client") as live:
        stream = asyncio.ensure_future(knock(live, "GET", url, {"accept": "text/event-stream"}, stay=asyncio.Event()))
        await eventually(lambda: asked(receiver, "client.connect"))
        assert asked(receiver, "client.connect")[0]["dialect"] == "channel_events"
        assert [repr(each).rpartition(" ")[2] for each in live._node.registry] == ["channel_events>"]
        stream.cancel()
        await asyncio.wait([stream])


async def test_channels_of_the_answer_are_subscribed_to(receiver: Receiver) -> None:
    says(receiver, {"user": "alice", "channels": ["room:tea"]})
    async with deciding(receiver, "connect", subscribe="nobody") as live, live.test_client() as client:
        await live.publish("room:tea", "hello")
        assert (await client.receive("room:tea")).data == "hello"


REFUSALS: list[tuple[int, object, int]] = [
    (200, {"disconnect": {"code": 4501, "reason": "no"}}, 4501),
    (200, {"disconnect": {"code": 4001, "reason": "later"}}, 4001),
    (200, {"disconnect": {"code": 1000, "reason": "no code of an application's"}}, 4500),
    (401, {}, 3507),
    (403, {"user": "alice"}, 3507),
]


@pytest.mark.parametrize(("status", "answer", "code"), REFUSALS)
async def test_an_application_that_says_no_ends_the_client(
    receiver: Receiver, status: int, answer: object, code: int
) -> None:
    says(receiver, answer, status)
    async with deciding(receiver, "connect") as live:
        with pytest.raises(Disconnect) as why:
            async with live.test_client():
                pass
        assert why.value.code == code
        assert list(live._node.registry) == []


GARBAGE: list[Reply] = [
    (200, b"", {}),
    (200, b"null", {}),
    (200, b"true", {}),
    (200, b'{"user":"alice","admin":true}', {}),
    (200, b'{"user":1}', {}),
    (200, b'{"allow":true}', {}),
    (200, b"<html>", {}),
    (200, b'{"user":"alice","data":"\xff"}', {}),
    (200, b'{"data":"\xff"}', {}),
    (302, b"", {"Location": "/"}),
    (500, b'{"user":"alice"}', {}),
    (0, b"", {}),
]


@pytest.mark.parametrize("answer", GARBAGE)
async def test_nobody_connects_by_an_answer_that_is_none(receiver: Receiver, answer: Reply) -> None:
    receiver.answers = [answer]
    async with deciding(receiver, "connect") as live:
        with pytest.raises(Refusal) as why:
            async with live.test_client():
                pass
        assert (why.value.code, why.value.temporary) == (100, True)
        assert not [session for session in live._node.registry if session.connected]


# ------------------------------------------------------------------------------------- subscribe, publish, rpc


async def attempt(client: Client, deed: str) -> Any:
    if deed == "subscribe":
        return await client.subscribe("room:tea")
    if deed == "publish":
        return await client.publish("room:tea", {"text": "hello"})
    return await client.rpc("double", 21)


DEEDS = {
    "subscribe": {"webhooks": ["subscribe"]},
    "publish": {"webhooks": ["publish"], "publish": "client"},
    "rpc": {"match": "other"},
}


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("answer", GARBAGE)
async def test_nothing_is_done_by_an_answer_that_is_none(receiver: Receiver, deed: str, answer: Reply) -> None:
    receiver.answers = [answer]
    async with deciding(receiver, "rpc", **DEEDS[deed]) as live, live.test_client() as client:
        with pytest.raises(Refusal) as why:
            await attempt(client, deed)
        assert (why.value.code, why.value.temporary) == (100, True)
        assert (await live.channels(), receiver.requests != []) == ({}, True)


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [
        (403, {}, 103),
        (200, {"error": {"code": 1234, "message": "no"}}, 1234),
        (200, {"error": {"code": 5, "message": "not a code of an application's"}}, 1000),
    ],
)
async def test_a_refusal_reaches_the_client_and_it_stays(
    receiver: Receiver, deed: str, status: int, answer: object, code: int
) -> None:
    says(receiver, answer, status)
    async with deciding(receiver, "rpc", **DEEDS[deed]) as live, live.test_client() as client:
        with pytest.raises(Refusal) as why:
            await attempt(client, deed)
        assert why.value.code == code
        says(receiver, {})
        await attempt(client, deed)


async def test_what_is_published_is_what_the_application_answers(receiver: Receiver) -> None:
    async with deciding(receiver, **DEEDS["publish"]) as live, live.test_client("alice") as client:
        await client.subscribe("room:tea")
        says(receiver, {"data": {"text": "replaced"}})
        await client.publish("room:tea", {"text": "\ud83d"})  # half a character passes, as everywhere
        assert (await client.receive("room:tea")).data == {"text": "replaced"}
        (shown,) = asked(receiver, "client.publish")
        assert (shown["channel"], shown["parameters"], shown["user"]) == ("room:tea", {"name": "tea"}, "alice")
        assert shown["data"] == {"text": "\ud83d"}
        receiver.answers = [(200, b'{\n  "data": {\n    "text": "in lines"\n  }\n}', {})]
        await client.publish("room:tea", 8)
        assert (await client.receive("room:tea")).data == {"text": "in lines"}
        says(receiver, {})
        await client.publish("room:tea", 7)
        assert (await client.receive("room:tea")).data == 7


async def test_an_rpc_that_no_function_answers_is_the_applications(receiver: Receiver) -> None:
    says(receiver, {"data": 42})
    async with deciding(receiver, "rpc") as live:
        live.rpc("own")(lambda session, data: "ours")
        async with live.test_client() as client:
            assert await client.rpc("own") == "ours"
            assert await client.rpc("double", 21) == 42
        assert [each["method"] for each in asked(receiver, "client.rpc")] == ["double"]


# -------------------------------------------------------------------------------------------------------------- refresh


@pytest.fixture
async def expiring(receiver: Receiver) -> AsyncIterator[tuple[Freshet, ManualClock, Client]]:
    """A client whose time is over in 10 seconds."""
    clock = ManualClock()
    config = parse(configuration(receiver.url, "connect", "refresh"))
    live = Freshet(config=config, environment={}, clock=clock)
    says(receiver, {"user": "alice", "expires": clock.wall() + 10})
    async with live.lifespan(), live.test_client() as client:
        receiver.requests.clear()
        yield live, clock, client


async def test_a_client_stays_as_long_as_the_application_says(
    receiver: Receiver, expiring: tuple[Freshet, ManualClock, Client]
) -> None:
    live, clock, _ = expiring
    until = clock.wall() + 1000
    says(receiver, {"expires": until})
    await clock.advance(12)
    await eventually(lambda: next(iter(live._node.registry)).expires == until)
    assert len(asked(receiver, "client.refresh")) == 1


async def test_a_client_that_may_not_stay_is_disconnected(
    receiver: Receiver, expiring: tuple[Freshet, ManualClock, Client]
) -> None:
    _, clock, client = expiring
    says(receiver, {"expired": True})
    await clock.advance(12)
    assert (await client.closed()).code == 3005


async def test_without_an_answer_a_client_is_disconnected_after_the_grace(
    receiver: Receiver, expiring: tuple[Freshet, ManualClock, Client]
) -> None:
    _, clock, client = expiring
    receiver.answers = [(500, b"", {})]
    await clock.advance(12)
    await eventually(lambda: len(asked(receiver, "client.refresh")) == 1)
    await clock.advance(2)
    await eventually(lambda: len(asked(receiver, "client.refresh")) == 2)
    await clock.advance(30)
    assert (await client.closed()).code == 3005


# --------------------------------------------------------------------------------------------------------------- events


async def test_the_application_is_notified_of_the_end_of_a_client_and_of_occupied_channels(receiver: Receiver) -> None:
    rule = {"webhooks": ["occupied", "vacated"]}
    async with deciding(receiver, "disconnect", **rule) as live:
        async with live.test_client() as one, live.test_client() as two:
            for client in (one, two):
                await client.subscribe("room:tea")
            await one.unsubscribe("room:tea")
            await eventually(lambda: asked(receiver, "channel.occupied") != [])
            assert asked(receiver, "channel.vacated") == []
        await eventually(lambda: len(asked(receiver, "client.disconnect")) == 2)
        for kind in ("occupied", "vacated"):
            await eventually(lambda kind=kind: asked(receiver, f"channel.{kind}") != [])  # type: ignore[misc]
            about = {"channel": "room:tea", "node": live._node.id}
            assert asked(receiver, f"channel.{kind}") == [about]


# -------------------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"url": None}, "webhooks.url"),
        ({"url": "example.org/hooks"}, "webhooks.url"),
        ({"url": "ftp://example.org"}, "webhooks.url"),
        ({"secret": None}, "webhooks.secret"),
        ({"secret": "short"}, "webhooks.secret"),
    ],
)
def test_a_mistake_is_named_at_the_start(change: dict[str, Any], path: str) -> None:
    tree = configuration("http://127.0.0.1:1/", "connect")
    tree["webhooks"] = {key: value for key, value in {**tree["webhooks"], **change}.items() if value is not None}
    with pytest.raises(ConfigError) as mistake:
        Freshet(config=parse(tree), environment={})
    assert mistake.value.path == path


async def test_a_rule_that_wants_webhooks_needs_an_application() -> None:
    live = Freshet(config=parse(configuration(None, webhooks=["subscribe"])), environment={})
    with pytest.raises(ConfigError, match=r"room:\{name\}"):
        async with live.lifespan():
            pass


async def test_a_function_in_python_takes_the_place_of_a_webhook(receiver: Receiver) -> None:
    config = parse(configuration(receiver.url, "connect"))
    live = Freshet(config=config, environment={})

    @live.on_connect
    def hello(session: object) -> None:
        raise Disconnect(4777, "from Python")

    with pytest.raises(Disconnect) as why:
        async with live.test_client():
            pass
    assert (why.value.code, receiver.requests) == (4777, [])
