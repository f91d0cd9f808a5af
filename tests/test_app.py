"""The application in one's own process: how it starts, and what a user's functions do to a client."""

import asyncio
import json
import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import msgspec
import pydantic
import pytest

from freshet import Disconnect, Freshet, Refusal, Welcome
from freshet.config import Config, parse
from freshet.errors import ConfigError
from freshet.model.frame import Handshake
from freshet.model.log import ClientInfo, History
from freshet.session.session import Session
from tests.tools.asgi import knock, status
from tests.tools.patience import eventually
from tests.tools.sessions import Wire, connected, dev, opened, say, taken

WARNING = "started at the first request"


# ---------------------------------------------------------------------------------------------------------- starting


async def test_without_a_lifespan_it_starts_at_the_first_request_and_warns_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    live = dev()
    with caplog.at_level(logging.WARNING, "freshet"):
        assert await asyncio.gather(*(status(live) for _ in range(5))) == [404] * 5
        assert await status(live) == 404
    assert caplog.text.count(WARNING) == 1
    session = await connected(live)
    session.close(Disconnect.normal())
    await live._node.stop()


async def test_who_comes_first_leaves_no_variables_to_the_functions_that_run_for_others() -> None:
    """Such as a middleware sets: who asks, in which transaction."""
    who: ContextVar[str] = ContextVar("who", default="nobody")
    live = dev(config=parse({"timing": {"ping_interval": 0.2, "pong_timeout": 0.1}}))
    left: list[str] = []

    @live.namespace("/").on_disconnect
    def gone(session: Session) -> None:
        left.append(who.get())

    async def ask(name: str, method: str = "GET", more: str = "", body: bytes = b"") -> bytes:
        who.set(name)
        url = "/socket.io/?EIO=4&transport=polling"
        return (await knock(live, method, url + more, body=body)).body

    async def bob() -> None:
        session = "&sid=" + json.loads((await ask("bob"))[1:])["sid"]
        await ask("bob", "POST", session, b"40")

    await asyncio.create_task(ask("alice"))
    await asyncio.create_task(bob())
    await eventually(lambda: left, 10, "the end of a client that answers no ping")
    assert "alice" not in left


async def test_within_its_lifespan_it_does_not_warn(caplog: pytest.LogCaptureFixture) -> None:
    live = dev()
    with caplog.at_level(logging.WARNING, "freshet"):
        async with live.lifespan():
            await status(live)
    assert WARNING not in caplog.text


async def test_it_is_an_asgi_application_with_a_lifespan_of_its_own() -> None:
    live, sent = dev(), []
    end: asyncio.Queue[Any] = asyncio.Queue()
    end.put_nowait({"type": "lifespan.startup"})

    async def send(message: Any) -> None:
        sent.append(message["type"])

    serving = asyncio.create_task(live({"type": "lifespan"}, end.get, send))
    await eventually(lambda: sent == ["lifespan.startup.complete"])
    session = await connected(live)
    end.put_nowait({"type": "lifespan.shutdown"})
    await serving
    assert sent[1:] == ["lifespan.shutdown.complete"]
    assert session.outbox.closed is not None
    assert session.outbox.closed.code == 3001


async def test_a_start_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    live, sent = dev(), []

    async def fail() -> None:
        raise OSError("no disk")

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    monkeypatch.setattr(live._node, "start", fail)
    await live({"type": "lifespan"}, receive, send)
    assert sent == [{"type": "lifespan.startup.failed", "message": "no disk"}]


async def test_without_a_secret_it_says_what_to_set(caplog: pytest.LogCaptureFixture) -> None:
    live = Freshet(environment={})
    with caplog.at_level(logging.WARNING, "freshet"):
        async with live.lifespan():
            session = opened(live)
            await say(session, {"id": 1, "connect": {}})
    assert "FRESHET_SECRET" in caplog.text
    assert session.outbox.closed is not None
    assert session.outbox.closed.code == 3500


@pytest.mark.parametrize("hook", ["none", "for all", "of a namespace", "of a gateway", "dev"])
async def test_who_may_connect_is_said_once_where_it_is_nobody_or_everybody(
    hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    live = Freshet(environment={}, dev=hook == "dev")
    if hook == "for all":
        live.on_connect(lambda session: None)
    elif hook == "of a namespace":
        live.namespace("/shop").on_connect(lambda session, auth: None)
    elif hook == "of a gateway":
        live.gateway(stage="dev", auth="none")
    with caplog.at_level(logging.WARNING, "freshet"):
        for _ in range(2):
            async with live.lifespan():
                pass
    assert caplog.text.count("no secret is set") == (hook == "none")
    assert caplog.text.count("nothing is protected") == (hook == "dev")


@pytest.mark.parametrize("dev", [False, True])
def test_without_a_configuration_the_options_are_those_of_the_environment(dev: bool) -> None:
    live = Freshet(dev=dev, environment={"FRESHET_LIMITS__OUTBOX": "2048", "FRESHET_TIMING__DRAIN": "3"})
    assert (live.config.limits.outbox, live.config.timing.drain) == (2048, 3)
    assert live.config.tokens.anonymous is dev
    assert Freshet(dev=dev, environment={"FRESHET_TIMING__DRAIN": "3"}, config=Config()).config.timing.drain == 30
    with pytest.raises(ConfigError, match="drain"):
        Freshet(dev=dev, environment={"FRESHET_TIMING__DRAINS": "3"})


def test_an_engine_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"no engine 'carrier'; there are memory"):
        Freshet(config=Config(engine="carrier://pigeon"), environment={})


async def test_rules_made_in_code_come_before_those_of_the_configuration() -> None:
    config = parse({"channels": [{"match": "*"}], "tokens": {"anonymous": True}})
    live = Freshet(config=config, environment={})
    live.channel("kept", history=History(size=5, ttl=60))
    async with live.lifespan():
        assert (await live.publish("kept", 1)).offset == 1
        assert (await live.publish("other", 1)).offset == 0
        with pytest.raises(Refusal) as refusal:
            await live.history("other")
        assert refusal.value.code == 108


# ----------------------------------------------------------------------------------------------- a user's functions


async def reply_of(live: Freshet, command: Wire) -> Wire:
    async with live.lifespan():
        session = await connected(live)
        replies = await say(session, {"id": 2, "subscribe": {"channel": "lot:7"}}, {"id": 3, **command})
        return next(reply for reply in replies if reply.get("id") == 3)


class Bid(msgspec.Struct):
    amount: int


class PydanticBid(pydantic.BaseModel):
    amount: int


def rpc(live: Freshet, function: Callable[..., Any]) -> Freshet:
    live.rpc("bid")(function)
    return live


async def test_an_answer_may_come_from_a_function_with_or_without_await() -> None:
    async def later(session: Session, data: Any) -> Any:
        return {"got": data}

    def at_once(session: Session, data: Any) -> Any:
        return {"got": data}

    for function in (later, at_once):
        reply = await reply_of(rpc(dev(), function), {"rpc": {"method": "bid", "data": [1]}})
        assert reply["rpc"] == {"data": {"got": [1]}}


async def test_typed_data_comes_converted_by_msgspec_or_by_pydantic() -> None:
    seen: list[Any] = []

    def plain(session: Session, data: Bid) -> None:
        seen.append(data)

    def pydantic_(session: Session, data: PydanticBid) -> Any:
        seen.append(data)
        return PydanticBid(amount=data.amount + 1)

    assert (await reply_of(rpc(dev(), plain), {"rpc": {"method": "bid", "data": {"amount": 5}}}))["rpc"] == {
        "data": None
    }
    reply = await reply_of(rpc(dev(), pydantic_), {"rpc": {"method": "bid", "data": {"amount": 5}}})
    assert reply["rpc"]["data"] == {"amount": 6}
    assert seen == [Bid(5), PydanticBid(amount=5)]


@pytest.mark.parametrize("kind", [Bid, PydanticBid])
async def test_typed_data_that_does_not_fit_is_refused(kind: type) -> None:
    def bid(session: Any, data: Any) -> None:
        raise AssertionError("not to be called")

    bid.__annotations__["data"] = kind
    reply = await reply_of(rpc(dev(), bid), {"rpc": {"method": "bid", "data": {"amount": "many"}}})
    assert reply["error"]["code"] == 107
    assert "amount" in reply["error"]["message"]


async def test_a_refusal_reaches_the_client_as_it_is() -> None:
    def bid(session: Session, data: Any) -> None:
        raise Refusal(1001, "too low", temporary=True)

    reply = await reply_of(rpc(dev(), bid), {"rpc": {"method": "bid"}})
    assert reply["error"] == {"code": 1001, "message": "too low", "temporary": True}


async def test_any_other_exception_is_an_internal_error_and_a_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def bid(session: Session, data: Any) -> None:
        raise RuntimeError("the password is hunter2")

    with caplog.at_level(logging.ERROR, "freshet"):
        reply = await reply_of(rpc(dev(), bid), {"rpc": {"method": "bid"}})
    assert reply["error"] == {"code": 100, "message": "internal server error", "temporary": True}
    assert "Traceback" in caplog.text
    assert "hunter2" in caplog.text


async def test_a_disconnect_from_a_function_ends_the_session_with_its_code() -> None:
    live = dev()

    @live.rpc("leave")
    async def leave(session: Session, data: Any) -> None:
        raise Disconnect(4000, "as you wish")

    async with live.lifespan():
        session = await connected(live)
        assert await say(session, {"id": 2, "rpc": {"method": "leave"}}) == []
        assert session.outbox.closed is not None
        assert (session.outbox.closed.code, session.outbox.closed.reason) == (4000, "as you wish")


@pytest.mark.parametrize("code", [0, 200, 1005, 1006, 1015, 2000, 5000, 70000])
async def test_a_code_with_which_no_websocket_closes_is_a_mistake_of_the_function(code: int) -> None:
    def leave(session: Session, data: Any) -> None:
        raise Disconnect(code, "as you wish")

    with pytest.raises(ValueError, match="4000-4499"):
        leave(None, None)  # type: ignore[arg-type]
    reply = await reply_of(rpc(dev(), leave), {"rpc": {"method": "bid"}})
    assert reply["error"]["code"] == 100


async def test_an_answer_that_cannot_be_json_is_an_internal_error() -> None:
    reply = await reply_of(rpc(dev(), lambda session, data: object()), {"rpc": {"method": "bid"}})
    assert reply["error"]["code"] == 100


async def test_methods_that_are_not_there_are_refused() -> None:
    assert (await reply_of(dev(), {"rpc": {"method": "bid"}}))["error"]["code"] == 108
    live = rpc(dev(), lambda session, data: None)
    assert (await reply_of(live, {"rpc": {"method": "other"}}))["error"]["code"] == 104


async def test_a_function_of_a_channel_may_refuse_change_or_pass_on_a_publication() -> None:
    live = dev()
    lot = live.channel("lot:{number}", publish="client", history=History(size=9, ttl=60))

    @lot.on_publish
    def bid(session: Session, data: Any, number: str) -> Any:
        if data == "refuse":
            raise Refusal.permission_denied(f"not in {number}")
        return {"in": number} if data == "change" else None

    async with live.lifespan():
        session = await connected(live)
        for id, data in enumerate(["refuse", "change", "pass"], 2):
            await say(session, {"id": id, "publish": {"channel": "lot:7", "data": data}})
        stream = await live.history("lot:7")
        assert [publication.data for publication in stream.publications] == [b'{"in":"7"}', b'"pass"']


async def test_a_function_of_a_channel_may_refuse_a_subscription() -> None:
    live = dev()

    @live.channel("lot:{number}").on_subscribe
    async def enter(session: Session, number: str, data: Any) -> None:
        if data != {"key": number}:
            raise Refusal.permission_denied()

    async with live.lifespan():
        session = await connected(live)
        [wrong] = await say(session, {"id": 2, "subscribe": {"channel": "lot:7", "data": {"key": "8"}}})
        assert wrong["error"]["code"] == 103
        [right] = await say(session, {"id": 3, "subscribe": {"channel": "lot:7", "data": {"key": "7"}}})
        assert "subscribe" in right


async def test_a_client_is_who_the_function_for_connections_says() -> None:
    live = dev()
    live.channel("hall", presence=True)

    @live.on_connect
    async def welcome(session: Session, request: Handshake, data: Any) -> Welcome:
        return Welcome(user="alice", info={"n": data}, channels=["hall"], data={"room": request.headers["x-room"]})

    async with live.lifespan():
        session = opened(live, headers={"x-room": "7"})
        [reply] = await say(session, {"id": 1, "connect": {"data": 5}})
        assert reply["connect"]["data"] == {"room": "7"}
        assert list(reply["connect"]["subs"]) == ["hall"]
        assert await live.presence("hall") == {session.id: ClientInfo("alice", session.id, msgspec.Raw(b'{"n":5}'))}
        await live.disconnect("alice")
        assert session.outbox.closed is not None
        assert session.outbox.closed.code == 3503


async def test_the_function_for_the_end_is_called_once_with_the_reason_and_not_for_strangers() -> None:
    live, gone = dev(), []

    @live.on_disconnect
    async def bye(session: Session, why: Disconnect) -> None:
        gone.append((session.id, why.code))

    async with live.lifespan():
        session, stranger = await connected(live), opened(live)
        session.close(Disconnect.expired())
        for each in (session, stranger, session):
            each.end(Disconnect.normal())
        await eventually(lambda: not live._node.tasks)
        assert gone == [(session.id, 3005)]


async def test_messages_go_to_their_function_and_without_one_end_the_session() -> None:
    live, seen = dev(), []
    async with live.lifespan():
        session = await connected(live)
        await say(session, {"send": {"data": 1}})
        assert session.outbox.closed is not None
        assert session.outbox.closed.code == 3508
        live.on_message(lambda session, data: seen.append(data))
        session = await connected(live)
        assert await say(session, {"send": {"data": {"a": 1}}}) == []
        assert seen == [{"a": 1}]


async def test_the_server_subscribes_and_unsubscribes_all_clients_of_a_user() -> None:
    live = dev()
    live.on_connect(lambda session, data: Welcome(user=data))
    async with live.lifespan():
        sessions = [opened(live) for _ in range(3)]
        for session, user in zip(sessions, ["alice", "alice", "bob"], strict=True):
            await say(session, {"id": 1, "connect": {"data": user}})
        await live.subscribe("alice", "news")
        await live.subscribe("alice", "news")
        await live.publish("news", 1)
        await asyncio.sleep(0)
        names = [[next(name for name in each["push"] if name != "channel") for each in taken(it)] for it in sessions]
        assert [news.count("subscribe") for news in names] == [1, 1, 0]
        assert [news.count("pub") for news in names] == [1, 1, 0]
        await live.unsubscribe("alice", "news")
        await live.publish("news", 2)
        await asyncio.sleep(0)
        assert all("pub" not in each["push"] for it in sessions for each in taken(it))
        assert live.statistics().subscriptions == 0


@pytest.mark.parametrize(
    ("options", "path", "says"),
    [
        ({"histori": None}, "histori", "Did you mean 'history'?"),
        ({"publish": "everyone"}, "publish", "Allowed: nobody, token, subscriber, client"),
        ({"history": 100}, "history", "in Python History(size=..., ttl=...)"),
        ({"history": {"size": 0, "ttl": 1}}, "history.size", "1 publication or more"),
        ({"join_leave": True}, "join_leave", "needs presence"),
    ],
)
def test_an_option_of_a_rule_is_checked_in_python_as_in_a_file(options: dict[str, Any], path: str, says: str) -> None:
    with pytest.raises(ConfigError) as in_python:
        dev().channel("news", **options)
    assert in_python.value.path == path
    assert says in in_python.value.message
    with pytest.raises(ConfigError) as in_a_file:
        parse({"channels": [{"match": "news", **options}]})
    assert in_a_file.value.path == f"channels[0].{path}"
    assert in_a_file.value.message == in_python.value.message


async def test_an_event_for_a_namespace_that_there_is_not_is_refused() -> None:
    live = dev()
    async with live.lifespan():
        with pytest.raises(Refusal, match="no namespace '/shop'; there are /") as refusal:
            await live.emit("price", 1, namespace="/shop")
        assert refusal.value.code == 102
        assert live._namespaces.get("/shop") is None
