"""Clients of the gateway: how they come in, what their messages do, how they leave."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from freshet import Disconnect, Freshet, Refusal
from freshet.config import Config, GatewayOptions, Rates
from freshet.endpoints.gateway.connection import Connection
from freshet.endpoints.gateway.gateway import Gone
from freshet.model.frame import Frame
from freshet.runtime.rates import Rate
from freshet.testing.gateway import ConnectionClosed, GatewayClient, HandshakeRefused
from tests.tools.patience import eventually


@pytest.fixture
def live() -> Freshet:
    live = Freshet(dev=True)
    live.gateway(stage="dev")
    return live


class SendMessage(msgspec.Struct):
    text: str
    action: str = "sendMessage"


async def test_a_function_gets_its_route_s_messages_converted_and_what_it_returns_goes_to_the_client(
    live: Freshet,
) -> None:
    @live.gateway().route("sendMessage")
    async def send(connection: Connection, data: SendMessage) -> Any:
        return {"to": connection.id, "text": data.text.upper()}

    async with GatewayClient(live) as client:
        await client.send(SendMessage("hi"))
        assert await client.receive_json() == {"to": client.id, "text": "HI"}


async def test_a_function_that_returns_nothing_answers_nothing_and_text_goes_as_it_is(live: Freshet) -> None:
    @live.gateway().route("quiet")
    def quiet(connection: Connection, data: Any) -> None:
        pass

    @live.gateway().route("text")
    def text(connection: Connection, data: Any) -> str:
        return "plain"

    @live.gateway().route("bytes")
    def binary(connection: Connection, data: Any) -> bytes:
        return b"\x00\xff"

    async with GatewayClient(live) as client:
        await client.send({"action": "quiet"})
        await client.expect_nothing()
        await client.send({"action": "text"})
        assert await client.receive() == "plain"
        await client.send({"action": "bytes"})
        assert await client.receive() == b"\x00\xff"


async def test_messages_of_one_client_are_taken_in_their_order(live: Freshet) -> None:
    first, order = asyncio.Event(), []

    @live.gateway().route("note")
    async def note(connection: Connection, data: dict[str, Any]) -> None:
        if data["n"] == 0:
            await first.wait()
        order.append(data["n"])

    async with GatewayClient(live) as client:
        for n in range(3):
            await client.send({"action": "note", "n": n})
        assert order == []
        first.set()
        await client.send({"action": "note", "n": 3})
        assert order == [0, 1, 2, 3]


async def test_what_no_route_takes_is_forbidden_and_the_client_stays(live: Freshet) -> None:
    @live.gateway().route("known")
    def known(connection: Connection, data: Any) -> str:
        return "here"

    async with GatewayClient(live) as client:
        for message in ({"action": "unknown"}, "no JSON", {"action": "$connect"}, {"action": "$disconnect"}):
            await client.send(message)
            refused = await client.receive_json()
            assert (refused["message"], refused["connectionId"]) == ("Forbidden", client.id)
            assert set(refused) == {"message", "connectionId", "requestId"}
        await client.send({"action": "known"})
        assert await client.receive() == "here"


@pytest.mark.parametrize("key", ["$connect", "$disconnect"])
async def test_no_message_reaches_the_routes_of_coming_and_going(live: Freshet, key: str) -> None:
    seen: list[str] = []

    @live.gateway().route(key)
    def reserved(connection: Connection) -> None:
        seen.append(connection.id)

    @live.gateway().route("$default")
    def default(connection: Connection, data: Any) -> str:
        return "default"

    async with GatewayClient(live) as client:
        before = list(seen)
        await client.send({"action": key})
        assert await client.receive() == "default"
        assert seen == before


async def test_a_function_that_fails_answers_as_aws_does_and_the_client_stays(
    live: Freshet, caplog: pytest.LogCaptureFixture
) -> None:
    @live.gateway().route("fail")
    def fail(connection: Connection, data: Any) -> None:
        raise ValueError("a secret of the server")

    async with GatewayClient(live) as client:
        for _ in range(2):
            await client.send({"action": "fail"})
            answer = await client.receive()
            assert json.loads(answer) == {
                "message": "Internal server error",
                "connectionId": client.id,
                "requestId": json.loads(answer)["requestId"],
            }
    assert "a secret of the server" in caplog.text


async def test_a_function_that_takes_too_long_answers_the_same(live: Freshet) -> None:
    @live.gateway().route("slow", timeout=0.05)
    async def slow(connection: Connection, data: Any) -> None:
        await asyncio.Event().wait()

    async with GatewayClient(live) as client:
        await client.send({"action": "slow"})
        assert (await client.receive_json())["message"] == "Internal server error"


async def test_a_refusal_is_told_to_the_client_by_its_text_and_a_disconnect_by_its_code(live: Freshet) -> None:
    @live.gateway().route("refuse")
    def refuse(connection: Connection, data: Any) -> None:
        raise Refusal(1000, "not today")

    @live.gateway().route("end")
    def end(connection: Connection, data: Any) -> None:
        raise Disconnect(4500, "enough")

    async with GatewayClient(live) as client:
        await client.send({"action": "refuse"})
        assert (await client.receive_json())["message"] == "not today"
        await client.send({"action": "end"})
        assert (await client.closed()).code == 4500


async def test_data_that_does_not_fit_its_type_is_refused_by_what_is_wrong(live: Freshet) -> None:
    @live.gateway().route("sendMessage")
    def send(connection: Connection, data: SendMessage) -> None:
        raise AssertionError("it was called")

    async with GatewayClient(live) as client:
        await client.send({"action": "sendMessage", "text": 7})
        assert "Expected `str`" in (await client.receive_json())["message"]


@pytest.mark.parametrize(
    "message", ["[" * 60_000, '{"a":' * 10_000 + "1" + "}" * 10_000, '{"action":"\\ud800"}', "\x00", "{", ""]
)
async def test_whatever_a_client_sends_somebody_takes_it(live: Freshet, message: str) -> None:
    @live.gateway().route("$default")
    def default(connection: Connection, data: Any) -> str:
        return "taken"

    async with GatewayClient(live) as client:
        await client.send(message)
        assert await client.receive() == "taken"


@pytest.mark.parametrize(
    "key",
    ["__class__", "../sendMessage", "sendMessage\n", "sendMessage ", "SENDMESSAGE", "$request.body.action", "*", ""],
)
async def test_a_key_is_what_it_is_and_leads_to_no_other_route(live: Freshet, key: str) -> None:
    @live.gateway().route("sendMessage")
    def send(connection: Connection, data: Any) -> str:
        raise AssertionError("it was called")

    async with GatewayClient(live) as client:
        await client.send({"action": key})
        assert (await client.receive_json())["message"] == "Forbidden"


async def test_ids_of_others_can_be_guessed_by_nobody(live: Freshet) -> None:
    async with GatewayClient(live) as one, GatewayClient(live) as two:
        assert one.id[:5] == two.id[:5]  # of the same node
        assert one.id[6:] != two.id[6:]
        for near in (one.id[:10] + two.id[10:], one.id + "=", one.id.rstrip("=")):
            with pytest.raises(Gone):
                await live.gateway().post(near, "x")
        await one.expect_nothing()


async def test_a_client_that_sends_faster_than_its_rate_is_told_so() -> None:
    config = Config(gateway=GatewayOptions(stage="dev"), rates=Rates(client=Rate(rate=0.001, burst=1)))
    live = Freshet(dev=True, config=config)

    @live.gateway().route("$default")
    def default(connection: Connection, data: Any) -> None:
        pass

    async with GatewayClient(live) as client:
        for _ in range(300):
            await client.send("x")
        assert "message" in await client.receive_json()


# ------------------------------------------------------------------------------------------------------------ coming in


async def test_without_a_connect_route_everybody_gets_in_and_with_one_who_is_refused_does_not(live: Freshet) -> None:
    gone: list[str] = []

    @live.gateway().route("$disconnect")
    def disconnect(connection: Connection) -> None:
        gone.append(connection.id)

    async with GatewayClient(live):
        pass
    assert len(gone) == 1

    @live.gateway().route("$connect")
    def connect(connection: Connection) -> None:
        raise Refusal.permission_denied()

    with pytest.raises(HandshakeRefused) as refused:
        await GatewayClient(live).__aenter__()
    assert refused.value.status == 403
    assert json.loads(refused.value.body)["message"] == "Forbidden"
    assert len(gone) == 1  # who was never in does not leave


async def test_a_connect_route_that_fails_lets_nobody_in(live: Freshet) -> None:
    @live.gateway().route("$connect")
    def connect(connection: Connection) -> None:
        raise ValueError

    with pytest.raises(HandshakeRefused, match=r"500.*Internal server error"):
        await GatewayClient(live).__aenter__()
    assert len(live.gateway().connections) == 0


async def test_nothing_can_be_sent_to_a_client_that_is_not_in_yet(live: Freshet) -> None:
    @live.gateway().route("$connect")
    async def connect(connection: Connection) -> None:
        with pytest.raises(Gone):
            await connection.send("early")

    async with GatewayClient(live) as client:
        await client.expect_nothing()


async def test_a_token_of_the_server_s_own_says_who_it_is() -> None:
    live = Freshet(secret="s" * 64)

    @live.gateway(stage="dev").route("who")
    def who(connection: Connection, data: Any) -> Any:
        return [connection.user, connection.claims["role"]]

    async with GatewayClient(live, query=f"token={live.token('alice', role='admin')}") as client:
        await client.send({"action": "who"})
        assert await client.receive_json() == ["alice", "admin"]
    for query in ("", "token=a.b.c"):
        with pytest.raises(HandshakeRefused) as refused:
            await GatewayClient(live, query=query).__aenter__()
        assert refused.value.status == 401


async def test_without_authorization_everybody_comes_in_only_if_that_is_said() -> None:
    live = Freshet(secret="s" * 64)
    live.gateway(stage="dev", auth="none")
    async with GatewayClient(live, query="token=somebody-else-s"):
        pass


async def test_another_stage_is_not_there_and_where_no_gateway_is_there_is_none(live: Freshet) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        await GatewayClient(live, path="/prod").__aenter__()
    assert refused.value.status == 404
    with pytest.raises(HandshakeRefused) as refused:
        await GatewayClient(Freshet(dev=True), path="/dev").__aenter__()
    assert refused.value.status == 404


async def test_without_a_stage_in_the_url_it_is_a_custom_domain(live: Freshet) -> None:
    async with GatewayClient(live, path="/") as client:
        assert client.id


@pytest.mark.parametrize("stage", ["api", "channels", "metrics", "a/b", "ü"])
async def test_a_stage_that_cannot_be_a_path_of_its_own_is_refused(stage: str) -> None:
    from freshet.errors import ConfigError

    with pytest.raises(ConfigError, match="stage"):
        Freshet(dev=True).gateway(stage=stage)


# ---------------------------------------------------------------------------------------------------------- connections


async def test_a_channel_reaches_its_connections_with_one_publication(live: Freshet) -> None:
    @live.gateway().route("join")
    async def join(connection: Connection, data: Any) -> None:
        await connection.subscribe("chat:42")

    async with GatewayClient(live) as one, GatewayClient(live) as two, GatewayClient(live) as other:
        for client in (one, two):
            await client.send({"action": "join"})
        await live.publish("chat:42", {"text": "to all"})
        assert [await client.receive_json() for client in (one, two)] == [{"text": "to all"}] * 2
        await live.gateway().unsubscribe(one.id, "chat:42")
        await live.publish("chat:42", b"\x00\xff")
        assert await two.receive() == b"\x00\xff"
        await one.expect_nothing()
        await other.expect_nothing()


async def test_who_comes_back_gets_what_it_missed_from_where_the_application_says(live: Freshet) -> None:
    async with GatewayClient(live) as client:
        start = await live.publish("chat:1", 1)
        await live.publish("chat:1", 2)
        await live.publish("chat:1", 3)
        await live.gateway().subscribe(client.id, "chat:1", since=start)
        await live.publish("chat:1", 4)
        assert [await client.receive_json() for _ in range(3)] == [2, 3, 4]


async def test_the_server_posts_to_one_to_several_and_learns_who_is_gone(live: Freshet) -> None:
    gateway = live.gateway()
    async with GatewayClient(live) as one, GatewayClient(live) as two:
        await gateway.post(one.id, "text")
        await gateway.post(one.id, {"json": 1})
        await gateway.post(one.id, b"\xff")
        assert [await one.receive() for _ in range(3)] == ["text", '{"json":1}', b"\xff"]
        assert await gateway.post_all([one.id, "AAAAAAAAAAAAAAA=", two.id], "all") == ["AAAAAAAAAAAAAAA="]
        assert (await one.receive(), await two.receive()) == ("all", "all")
        assert (await gateway.get(one.id)).source_ip == "127.0.0.1"
        await gateway.delete(one.id)
        closed = await one.closed()
        assert closed.code == 1000
        for call in (gateway.post(one.id, "x"), gateway.get(one.id), gateway.delete(one.id)):
            with pytest.raises(Gone):
                await call
        with pytest.raises(ConnectionClosed):
            await one.send("x")


async def test_a_connection_takes_what_the_server_may_do_with_it(live: Freshet) -> None:
    @live.gateway().route("bye")
    async def bye(connection: Connection, data: Any) -> None:
        await connection.subscribe("chat:1")
        await connection.unsubscribe("chat:1")
        await connection.send("goodbye")
        await connection.close()

    async with GatewayClient(live) as client:
        await client.send({"action": "bye"})
        assert await client.receive() == "goodbye"
        assert (await client.closed()).code == 1000


async def test_a_client_that_does_not_read_is_posted_no_more_than_its_outbox_holds(live: Freshet) -> None:
    async with GatewayClient(live) as client:
        session = next(iter(live.gateway().connections))
        session.outbox.attach(lambda: None)  # its transport takes nothing any more
        part = b"x" * 300_000
        statuses = [(await live.gateway().connections.do("post", client.id, part)).status for _ in range(6)]
        assert statuses[:3] == [200, 200, 200]
        assert set(statuses[4:]) == {429}
        with pytest.raises(Refusal) as refused:
            await live.gateway().post(client.id, part)
        assert refused.value.temporary


async def test_a_client_that_reads_is_posted_any_number_in_one_turn(live: Freshet) -> None:
    async with GatewayClient(live) as client:
        session = next(iter(live.gateway().connections))
        taken: list[Frame] = []
        session.outbox.attach(lambda: taken.extend(session.outbox.take_piece()))
        part = b"x" * 10_000
        statuses = [(await live.gateway().connections.do("post", client.id, part)).status for _ in range(250)]
        assert set(statuses) == {200}
        await eventually(lambda: len(taken) == 250)


@pytest.mark.parametrize("code", [1000, 1005, 1006])
async def test_disconnect_runs_once_however_a_client_goes(live: Freshet, code: int) -> None:
    gone: list[tuple[str, int]] = []

    @live.gateway().route("$disconnect")
    def disconnect(connection: Connection, code: int) -> None:
        gone.append((connection.id, code))

    async with GatewayClient(live) as client:
        await client.disconnect(code)
        await client.disconnect(code)
    assert gone == [(client.id, code)]


async def test_a_server_that_ends_runs_disconnect_once_for_each_with_going_away(live: Freshet) -> None:
    gone: list[tuple[str, int]] = []

    @live.gateway().route("$disconnect")
    async def disconnect(connection: Connection, code: int) -> None:
        await asyncio.sleep(0)
        gone.append((connection.id, code))

    async with live.lifespan():
        clients = [await GatewayClient(live).__aenter__() for _ in range(5)]
        await live.drain()
        assert {(await client.closed()).code for client in clients} == {1001}
    assert sorted(gone) == sorted((client.id, 1001) for client in clients)


async def test_an_event_that_fails_at_the_end_leaves_no_connection_behind(live: Freshet) -> None:
    @live.gateway().route("$disconnect")
    def disconnect(connection: Connection) -> None:
        raise ValueError

    async with GatewayClient(live):
        assert len(live.gateway().connections) == 1
    assert len(live.gateway().connections) == 0


def test_a_route_of_a_reserved_form_is_refused_where_it_is_registered(live: Freshet) -> None:
    with pytest.raises(ValueError, match=r"\$default"):
        live.gateway().route("$other")
    with pytest.raises(TypeError, match="connection, data"):
        live.gateway().route("send")(lambda connection: None)
