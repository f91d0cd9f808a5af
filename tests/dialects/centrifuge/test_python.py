"""Every command of the dialect, by the official Python client."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pytest
from centrifuge import CentrifugeError, Client, ReplyError, StreamPosition
from websockets.asyncio.client import connect

from tests.tools.clients import CONFIG, Listener, connected, soon, token
from tests.tools.serving import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("centrifuge") / "freshet.toml"
    config.write_text(CONFIG)
    with serving("--config", str(config)) as server:
        yield server


@pytest.fixture
async def alice(server: Server) -> AsyncIterator[Client]:
    async with connected(server) as client:
        yield client


@pytest.fixture
def channel() -> str:
    return f"room-{uuid4().hex}"


async def refused(awaitable: Any) -> int:
    """The code of the error that an official client raises."""
    with pytest.raises(CentrifugeError) as error:
        await awaitable
    assert isinstance(error.value, ReplyError)
    return int(error.value.code)


async def raw(server: Server, *commands: dict[str, Any]) -> list[dict[str, Any]]:
    """The replies to commands sent as they are, behind a connect."""
    async with connect(server.ws("/connection/websocket")) as socket:
        lines = [{"id": 1, "connect": {"token": token()}}, *commands]
        await socket.send("\n".join(map(json.dumps, lines)))
        replies: list[dict[str, Any]] = []
        while len([reply for reply in replies if "id" in reply]) < len(lines):
            replies += map(json.loads, str(await soon(socket.recv())).split("\n"))
        return [reply for reply in replies if "id" in reply][1:]


async def disconnected(server: Server, **options: Any) -> tuple[int, str]:
    """How a client that may not connect is sent away."""
    client = Client(server.ws("/connection/websocket"), **options)
    ending: asyncio.Queue[Any] = asyncio.Queue()
    client.events.on_disconnected = ending.put
    await client.connect()
    context = await soon(ending.get())
    return context.code, context.reason


async def test_a_client_without_a_right_token_is_sent_away_for_good(server: Server) -> None:
    assert await disconnected(server, token=token()[:-4] + "AAAA") == (3500, "invalid token")
    assert await disconnected(server, token=token(channel="private:1")) == (3500, "invalid token")
    server.wait_for_log("refused by its `channel`: a subscription token does not connect")


async def test_a_client_with_an_expired_token_gets_a_new_one_and_connects(server: Server) -> None:
    async def new_token() -> str:
        return token()

    async with connected(server, token=token(expires_in=-10), get_token=new_token) as client:
        assert client.state.value == "connected"


async def test_publications_reach_all_subscribers_in_order(server: Server, alice: Client, channel: str) -> None:
    async with connected(server, "bob") as bob:
        listeners = [Listener(alice, channel), Listener(bob, channel)]
        for listener in listeners:
            await listener.start()
        for index in range(50):
            await listeners[index % 2].subscription.publish({"index": index})
        for listener in listeners:
            contexts = [await soon(listener.publications.get()) for _ in range(50)]
            assert [context.pub.data["index"] for context in contexts] == list(range(50))
            assert [context.pub.offset for context in contexts] == list(range(1, 51))
            assert contexts[1].pub.info.user == "bob"


async def test_after_unsubscribing_nothing_more_comes(server: Server, alice: Client, channel: str) -> None:
    async with connected(server, "bob") as bob:
        listener, other = Listener(alice, channel), Listener(bob, channel)
        await listener.start()
        await other.start()
        await listener.subscription.unsubscribe()
        assert (await other.event("leave")).info.user == "alice"
        await other.subscription.publish(1)
        assert await other.data(1) == [1]
        assert listener.publications.empty()


async def test_joins_and_leaves_are_told(server: Server, alice: Client, channel: str) -> None:
    listener = Listener(alice, channel)
    await listener.start()
    assert (await listener.event("join")).info.user == "alice"
    async with connected(server, "bob") as bob:
        await Listener(bob, channel).start()
        assert (await listener.event("join")).info.user == "bob"
        presence = await listener.subscription.presence()
        assert sorted(info.user for info in presence.clients.values()) == ["alice", "bob"]
        stats = await listener.subscription.presence_stats()
        assert (stats.num_clients, stats.num_users) == (2, 2)
    assert (await listener.event("leave")).info.user == "bob"


async def test_history_is_read_in_pages_in_both_directions(alice: Client, channel: str) -> None:
    listener = Listener(alice, channel)
    await listener.start()
    for index in range(1, 6):
        await listener.subscription.publish(index)
    everything = await listener.subscription.history(limit=-1)
    assert [publication.data for publication in everything.publications] == [1, 2, 3, 4, 5]
    since = StreamPosition(offset=2, epoch=everything.epoch)
    page = await listener.subscription.history(limit=2, since=since)
    assert [publication.data for publication in page.publications] == [3, 4]
    newest = await listener.subscription.history(limit=2, reverse=True)
    assert [publication.data for publication in newest.publications] == [5, 4]
    position = await listener.subscription.history(limit=0)
    assert (position.offset, position.publications) == (5, [])
    foreign = StreamPosition(offset=2, epoch="elsewhere")
    assert await refused(listener.subscription.history(limit=2, since=foreign)) == 112


async def test_what_was_missed_comes_before_the_live_flow(server: Server, alice: Client, channel: str) -> None:
    listener = Listener(alice, channel)
    await listener.start()
    async with connected(server, "bob") as bob:
        other = Listener(bob, channel)
        await other.start()
        await alice.disconnect()
        for index in range(20):
            await other.subscription.publish(index)
        await alice.connect()
        answer = await soon(listener.subscribed.get())
        await other.subscription.publish(20)
        assert (answer.was_recovering, answer.recovered) == (True, True)
        assert await listener.data(21) == list(range(21))


async def test_who_missed_more_than_is_kept_is_told_so(server: Server, alice: Client) -> None:
    channel = f"small:{uuid4().hex}"
    listener = Listener(alice, channel)
    await listener.start()
    async with connected(server, "bob") as bob:
        await alice.disconnect()
        for index in range(3):
            await bob.publish(channel, index)
        await alice.connect()
        answer = await soon(listener.subscribed.get())
        assert (answer.was_recovering, answer.recovered) == (True, False)
        await bob.publish(channel, "live")
        assert await listener.data(1) == ["live"]


async def test_a_subscription_token_opens_one_channel_to_one_user(alice: Client) -> None:
    await Listener(alice, "private:1", token=token(channel="private:1")).start()
    for wrong in (token(channel="private:1"), token("bob", channel="private:2"), token()):
        listener = Listener(alice, "private:2", token=wrong)
        await listener.subscription.subscribe()
        assert (await listener.event("unsubscribed")).code == 103
        alice.remove_subscription(listener.subscription)


async def test_the_server_subscribes_a_user_to_the_personal_channel(server: Server) -> None:
    client = Client(server.ws("/connection/websocket"), token=token("carol", channels=["news"]))
    subscribed: asyncio.Queue[Any] = asyncio.Queue()
    client.events.on_subscribed = subscribed.put
    await client.connect()
    try:
        assert {(await soon(subscribed.get())).channel for _ in range(2)} == {"#carol", "news"}
    finally:
        await client.disconnect()


async def test_anothers_personal_channel_is_refused(server: Server) -> None:
    commands = [
        {"id": 2, "subscribe": {"channel": "#bob"}},
        {"id": 3, "publish": {"channel": "#bob", "data": 1}},
        {"id": 4, "history": {"channel": "#bob"}},
    ]
    assert [reply["error"]["code"] for reply in await raw(server, *commands)] == [103, 103, 103]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"rpc": {"method": "nothing", "data": {}}}, 108),
        ({"subscribe": {"channel": "private:1"}}, 103),
        ({"subscribe": {"channel": "private:1", "token": "nonsense"}}, 103),
        ({"subscribe": {"channel": ""}}, 107),
        ({"subscribe": {"channel": "x" * 256}}, 107),
        ({"publish": {"channel": "quiet:1", "data": 1}}, 103),
        ({"publish": {"channel": "not-subscribed", "data": 1}}, 103),
        ({"history": {"channel": "not-subscribed"}}, 103),
        ({"presence": {"channel": "small:1"}}, 108),
        ({"presence_stats": {"channel": "small:1"}}, 108),
        ({"sub_refresh": {"channel": "private:1", "token": "nonsense"}}, 103),
    ],
)
async def test_what_may_not_be_is_refused_with_its_code(server: Server, command: dict[str, Any], code: int) -> None:
    [reply] = await raw(server, {"id": 2, **command})
    assert reply["error"]["code"] == code


async def test_a_second_subscription_to_a_channel_is_refused(server: Server, channel: str) -> None:
    commands = [{"id": id, "subscribe": {"channel": channel}} for id in (2, 3)]
    first, second = await raw(server, *commands)
    assert "subscribe" in first
    assert second["error"]["code"] == 105


async def test_tokens_are_refreshed(server: Server) -> None:
    private = {"channel": "private:1", "token": token(channel="private:1")}
    replies = await raw(
        server,
        {"id": 2, "refresh": {"token": token(expires_in=120)}},
        {"id": 3, "subscribe": private},
        {"id": 4, "sub_refresh": {**private, "token": token(channel="private:1", expires_in=120)}},
        {"id": 5, "ping": {}},
        {"id": 6, "unsubscribe": {"channel": "private:1"}},
    )
    assert replies[0]["refresh"]["expires"] is True
    assert 115 <= replies[0]["refresh"]["ttl"] <= 120
    assert 55 <= replies[1]["subscribe"]["ttl"] <= 60
    assert 115 <= replies[2]["sub_refresh"]["ttl"] <= 120
    assert replies[3:] == [{"id": 5, "ping": {}}, {"id": 6, "unsubscribe": {}}]


async def test_the_server_answers_a_shutdown_with_a_code_that_says_come_back(tmp_path: Any) -> None:
    config = tmp_path / "freshet.toml"
    config.write_text(CONFIG)
    with serving("--config", str(config)) as server:
        async with connected(server) as client:
            reasons: asyncio.Queue[Any] = asyncio.Queue()
            client.events.on_connecting = reasons.put
            server.process.terminate()
            assert (await soon(reasons.get())).code == 3001
        assert await asyncio.to_thread(server.ended) == 0
