"""Whether a client that comes back may have its rooms again: what the server gave is no more its own than the rest."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from secrets import token_hex
from typing import Any

import httpx
import msgspec
import pytest

from freshet import Disconnect, Freshet, History, Refusal, SocketSession
from freshet.commands.server import ServerOperations
from freshet.config import parse
from freshet.endpoints.socketio.withdrawn import ITEMS, Withdrawn
from freshet.policy.base import Grant, PolicyChain
from tests.endpoints.matrix import SECRET
from tests.tools.nats import nats
from tests.tools.redis import redis

POLLING = "/socket.io/?EIO=4&transport=polling"


class Shop:
    """Two nodes, where they share an engine, and one otherwise. The client comes to the first and returns to the last.

    banned: users that the hook of the room `guarded` refuses.
    """

    def __init__(self, engine: str, shared: bool) -> None:
        self.banned: set[str] = set()
        self.user = token_hex(4)  # the tests share an engine
        self.nodes = [self._node(engine) for _ in range(2 if shared else 1)]

    def _node(self, engine: str) -> Freshet:
        live = Freshet(config=parse({"engine": engine}), secret=SECRET, environment={})
        for room in ("lot:{id}", "guarded:{id}"):
            channel = live.channel(room, history=History(size=10, ttl=60), subscribe="nobody")
            if room.startswith("guarded"):
                channel.on_subscribe(self._guard)
        live.channel("log:{id}", history=History(size=10, ttl=60))
        for name in ("/", "/staff"):
            namespace = live.namespace(name, recovery=60)
            namespace.on("enter")(self._enter)
        return live

    def _guard(self, session: SocketSession, id: str) -> None:
        if session.user in self.banned:
            raise Refusal.permission_denied("banned")

    async def _enter(self, session: SocketSession, room: str) -> None:
        await session.join(room)

    async def connect(self, node: Freshet, pid: str = "", namespace: str = "/", **token: Any) -> "Client":
        http = httpx.AsyncClient(transport=httpx.ASGITransport(node), base_url="http://x")
        client = Client(node, self.user, http, "" if namespace == "/" else f"{namespace},")
        await client.open({"token": node.token(self.user, **token), "pid": pid, "offset": ""})
        return client

    async def returns(self, before: "Client", **how: Any) -> "Client":
        """Whether its node knows that it was cut off or not. What the first node was told before is known to all."""
        await self.nodes[0].channels()  # all answer, behind what they were told
        return await self.connect(self.nodes[-1], before.told["pid"], **how)


class Client:
    def __init__(self, node: Freshet, user: str, http: httpx.AsyncClient, prefix: str) -> None:
        self.http = http
        self.told: dict[str, Any] = {}
        self._prefix = prefix
        self._node = node
        self._user = user
        self._url = ""

    async def open(self, auth: dict[str, str]) -> None:
        self._url = f"{POLLING}&sid={json.loads((await self.http.get(POLLING)).text[1:])['sid']}"
        await self.http.post(self._url, content=f"40{self._prefix}{json.dumps(auth)}")
        answer = (await self.http.get(self._url)).text
        self.told = json.loads(answer[answer.index("{") :]) if "{" in answer else {}

    async def cut_off(self) -> None:
        """Its connection is lost, and the server notices."""
        [session] = self._node._node.registry.of(self._user, self.told["sid"])
        await session.record.resumption.remember(session)
        session.end(Disconnect.normal())

    async def emit(self, event: str, room: str) -> None:
        await self.http.post(self._url, content=f"42{self._prefix}1{json.dumps([event, room])}")
        assert (await self.http.get(self._url)).text.startswith(f"43{self._prefix}1")

    def rooms(self) -> set[str]:
        sessions = self._node._node.registry.of(self._user, self.told["sid"])
        return {name for session in sessions for name in session.subscriptions if not name.startswith(("/", "#"))}


@pytest.fixture(scope="module", params=["memory", "sqlite", "redis", "nats"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    match request.param:
        case "redis":
            with redis() as broker:
                yield broker.url
        case "nats":
            with nats() as server:
                yield server.url
        case "sqlite":
            yield f"sqlite:///{tmp_path_factory.mktemp('returning') / 'logs.db'}"
        case _:
            yield "memory://"


@pytest.fixture
async def shop(engine: str) -> AsyncIterator[Shop]:
    shop = Shop(engine, engine.startswith(("redis", "nats")))
    async with AsyncExitStack() as stack:
        for node in shop.nodes:
            await stack.enter_async_context(node.lifespan())
        yield shop


async def in_room(shop: Shop, room: str = "lot:1", **how: Any) -> Client:
    client = await shop.connect(shop.nodes[0], **how)
    await client.emit("enter", room)
    assert client.rooms() == {room}
    return client


def anew(client: Client, before: Client) -> bool:
    """Whether it is in, with nothing of what it was before."""
    return bool(client.told["sid"]) and client.told["sid"] != before.told["sid"] and not client.rooms()


known = pytest.mark.parametrize("known", [True, False], ids=["the cut is known", "the cut is not known yet"])


@known
async def test_a_client_that_returns_has_the_rooms_that_the_server_gave_it(shop: Shop, known: bool) -> None:
    for room in ("lot:1", "guarded:1"):
        before = await in_room(shop, room)
        if known:
            await before.cut_off()
        client = await shop.returns(before)
        assert (client.told["sid"], client.rooms()) == (before.told["sid"], {room})


@known
async def test_a_room_that_was_taken_from_a_client_meanwhile_is_not_given_back(shop: Shop, known: bool) -> None:
    before = await in_room(shop)
    if known:
        await before.cut_off()
    await shop.nodes[0].unsubscribe(shop.user, "lot:1")
    assert anew(await shop.returns(before), before)


async def test_a_room_that_was_taken_from_another_client_of_the_user_or_from_another_user_is_given_back(
    shop: Shop,
) -> None:
    before, other = await in_room(shop), await in_room(shop)
    await before.cut_off()
    await shop.nodes[0].unsubscribe(shop.user, "lot:1", client=other.told["sid"])
    await shop.nodes[0].unsubscribe(shop.user, "lot:2")
    await shop.nodes[0].unsubscribe("bob", "lot:1")
    await shop.nodes[0].disconnect("bob")
    assert (await shop.returns(before)).rooms() == {"lot:1"}


async def test_who_was_disconnected_while_it_was_away_returns_with_nothing(shop: Shop) -> None:
    before = await in_room(shop)
    await before.cut_off()
    await shop.nodes[0].disconnect(shop.user)
    assert anew(await shop.returns(before), before)


async def test_who_was_told_to_reconnect_while_it_was_away_returns_with_all(shop: Shop) -> None:
    before = await in_room(shop)
    await before.cut_off()
    await shop.nodes[0].disconnect(shop.user, Disconnect.force_reconnect())
    assert (await shop.returns(before)).rooms() == {"lot:1"}


async def test_more_that_was_taken_than_is_kept_of_a_user_lets_no_session_go_on(shop: Shop) -> None:
    before = await in_room(shop)
    await before.cut_off()
    await shop.nodes[0].unsubscribe(shop.user, "lot:1")
    for number in range(ITEMS):
        await shop.nodes[0].unsubscribe(shop.user, f"lot:other{number}")
    assert anew(await shop.returns(before), before)


async def test_the_hook_of_a_room_is_asked_again_though_the_server_gave_it(shop: Shop) -> None:
    before = await in_room(shop, "guarded:1")
    await before.cut_off()
    shop.banned.add(shop.user)
    assert anew(await shop.returns(before), before)


async def test_a_room_that_was_given_for_a_time_is_not_given_back_for_longer(shop: Shop) -> None:
    before = await in_room(shop)
    soon = time.time() + 300
    operations = ServerOperations(shop.nodes[0]._node, PolicyChain(()))
    await operations.subscribe(shop.user, "lot:2", grant=Grant(msgspec.Raw(b'{"seat":7}'), soon))
    await before.cut_off()
    client = await shop.returns(before)
    [session] = shop.nodes[-1]._node.registry.of(shop.user, client.told["sid"])
    held = session.subscriptions["lot:2"]
    assert (held.expires, bytes(held.info)) == (soon, b'{"seat":7}')
    held.expires = time.time() - 1
    await client.cut_off()
    assert anew(await shop.returns(client), client)


async def test_a_secret_of_one_namespace_opens_no_session_of_another(shop: Shop) -> None:
    before = await in_room(shop, namespace="/staff")
    await before.cut_off()
    assert anew(await shop.returns(before, namespace="/"), before)


async def test_a_client_whose_token_was_revoked_or_whose_user_is_blocked_does_not_return(shop: Shop) -> None:
    before = await in_room(shop, jti="of one device")
    await before.cut_off()
    await shop.nodes[-1].revoke(token="of one device")
    assert not (await shop.returns(before, jti="of one device")).told.get("sid")
    blocked = await in_room(shop)
    await blocked.cut_off()
    await shop.nodes[-1].disconnect(shop.user, block=1)
    assert not (await shop.returns(blocked)).told.get("sid")


async def test_a_room_that_is_taken_while_its_client_returns_is_not_given_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two steps that are furthest apart: it was asked what was taken, and is not yet in."""
    before = await in_room(shop)
    await before.cut_off()
    asked = Withdrawn.concerns

    async def concerns(self: Withdrawn, user: str, session: str, rooms: Any) -> bool:
        taken = await asked(self, user, session, rooms)
        await shop.nodes[-1].unsubscribe(shop.user, "lot:1")
        return taken

    monkeypatch.setattr(Withdrawn, "concerns", concerns)
    assert anew(await shop.returns(before), before)
