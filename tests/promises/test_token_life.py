"""How long a token counts: refreshed, expired, revoked, blocked; and who comes back."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from centrifuge import Client
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from freshet import Disconnect, Freshet, History, Position, Refusal, Welcome
from freshet.testing import ManualClock
from tests.promises.test_authentication import api, code_of, live_of
from tests.promises.test_authentication import server as server  # noqa: PLC0414 - the fixture
from tests.tools.clients import SECRET, token
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server

# -------------------------------------------------------------------------------------------------------- how long


async def test_an_official_client_refreshes_in_time_and_stays(server: Server) -> None:
    asked = 0

    async def more(*context: Any) -> str:
        nonlocal asked
        asked += 1
        return token("rita", expires_in=2)

    client = Client(server.ws("/connection/websocket"), get_token=more)
    gone = asyncio.Event()

    async def note(context: Any) -> None:
        gone.set()

    client.events.on_disconnected = note
    client.events.on_connecting = note
    await client.connect()
    await client.ready(timeout=seconds(5))
    gone.clear()
    await eventually(lambda: asked >= 3, 20, "two refreshes")
    await client.publish("open:5", "still here")
    assert not gone.is_set()
    api(server, "revoke", user="rita")
    await asyncio.wait_for(gone.wait(), seconds(5))
    await client.disconnect()


async def test_who_does_not_refresh_can_do_nothing_more_and_is_let_go(freshet_clock: ManualClock) -> None:
    live = live_of(freshet_clock)
    async with live.test_client("alice", expires_in=30) as client:
        await client.publish("a", 1)
        freshet_clock.now += 30
        for asked in (client.publish("a", 2), client.subscribe("a"), client.history("a"), client.presence("a")):
            with pytest.raises(Refusal) as why:
                await asked
            assert (why.value.code, why.value.temporary) == (110, True)
        await client.refresh(live.token("alice", expires_in=30))
        await client.publish("a", 3)


async def test_a_leeway_counts_for_what_follows_too(freshet_clock: ManualClock) -> None:
    live = live_of(freshet_clock, leeway=20)
    async with live.test_client("alice", expires_in=-10) as client:
        await client.publish("a", 1)


async def test_what_a_newer_token_says_is_what_counts(freshet_clock: ManualClock) -> None:
    live = live_of(freshet_clock)
    async with live.test_client("alice") as client:
        await client.publish("a", 1)
        await client.refresh(live.token("alice", caps=[]))
        with pytest.raises(Refusal):
            await client.publish("a", 2)


# ------------------------------------------------------------------------------------------------------- taken back


@pytest.fixture
async def live(freshet_clock: ManualClock) -> AsyncIterator[Freshet]:
    live = live_of(freshet_clock)
    async with live.lifespan():
        yield live


async def test_a_revoked_token_ends_its_session_and_opens_no_other(live: Freshet) -> None:
    one, two = live.token("alice", jti="1"), live.token("alice", jti="2")
    async with live.test_client(token=one) as first, live.test_client(token=two) as second:
        await live.revoke(token="1")
        assert (await first.closed()).code == 3500
        await second.publish("a", 1)
        assert await code_of(live, token=one) == 3500
        assert await code_of(live, token=two) == "in"
        with pytest.raises(Disconnect):
            await second.refresh(one)


async def test_a_user_whose_tokens_are_revoked_gets_in_with_a_new_one(
    live: Freshet, freshet_clock: ManualClock
) -> None:
    old = live.token("alice")
    await freshet_clock.advance(1)
    await live.revoke("alice")
    assert await code_of(live, token=old) == 3500
    assert await code_of(live, token=live.token("bob")) == "in"
    await freshet_clock.advance(0.01)
    assert await code_of(live, token=live.token("alice")) == "in"
    await live.revoke(issued_before=freshet_clock.now)
    assert await code_of(live, token=live.token("carol")) == 3500
    await freshet_clock.advance(0.01)
    assert await code_of(live, token=live.token("carol")) == "in"


@pytest.mark.parametrize("iat", [1.8e12, 1e300], ids=["milliseconds", "never"])
async def test_a_token_that_says_it_was_issued_when_it_cannot_have_been_can_be_taken_back(
    live: Freshet, iat: float
) -> None:
    token = live.token("alice", iat=iat)
    async with live.test_client(token=token) as client:
        assert await code_of(live, token=token) == "in"
        await live.revoke("alice")
        assert (await client.closed()).code == 3500
        assert await code_of(live, token=token) == 3500


async def test_a_revoked_subscription_token_subscribes_nobody(live: Freshet) -> None:
    async with live.test_client("alice") as client:
        given = live.token("alice", channel="a", jti="s1")
        await live.revoke(token="s1")
        with pytest.raises(Refusal) as why:
            await client.subscribe("a", token=given)
        assert why.value.code == 103


async def test_a_subscription_ends_whose_token_is_revoked_and_nothing_else_of_its_client(live: Freshet) -> None:
    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        await alice.subscribe("a", token=live.token("alice", channel="a", jti="s1"))
        await alice.subscribe("b", token=live.token("alice", channel="b", jti="s2"))
        await alice.subscribe("c")
        await bob.subscribe("a", token=live.token("bob", channel="a", jti="s3"))
        await live.revoke(token="s1")
        ended = await alice.event("unsubscribe")
        assert (ended.channel, ended.data["code"], ended.data["reason"]) == ("a", 2000, "token revoked")
        [session] = live._node.registry.of("alice")
        assert set(session.subscriptions) == {"b", "c"}
        await live.publish("a", 1)
        assert (await bob.receive("a")).data == 1


async def test_a_subscription_ends_whose_token_is_older_than_what_its_user_was_revoked(
    live: Freshet, freshet_clock: ManualClock
) -> None:
    async with live.test_client("alice") as client:
        await client.subscribe("a", token=live.token("alice", channel="a"))
        await freshet_clock.advance(1)
        now = freshet_clock.now
        await client.refresh(live.token("alice"))
        await client.subscribe("b", token=live.token("alice", channel="b"))
        await live.revoke("alice", issued_before=now - 0.5)
        assert (await client.event("unsubscribe")).channel == "a"
        [session] = live._node.registry.of("alice")
        assert set(session.subscriptions) == {"b"}


async def test_a_subscription_whose_token_is_revoked_before_it_began_does_not_begin() -> None:
    asked, go_on, live = asyncio.Event(), asyncio.Event(), Freshet(secret=SECRET, environment={})
    gated = live.channel("gated:{name}", subscribe="token")

    @gated.on_subscribe
    async def subscribing(session: Any) -> None:
        asked.set()
        await go_on.wait()

    async with live.lifespan(), live.test_client("alice") as client:
        entering = asyncio.create_task(
            client.subscribe("gated:a", token=live.token("alice", channel="gated:a", jti="s1"))
        )
        await asked.wait()
        await live.revoke(token="s1")
        [session] = live._node.registry.of("alice")
        await eventually(lambda: session.reservations and session.reservations["gated:a"].revoked)
        go_on.set()
        with pytest.raises(Refusal) as why:
            await entering
        assert why.value.code == 103
        assert not session.subscriptions


@pytest.mark.parametrize("asked", [{}, {"user": "alice", "token": "1"}, {"token": "1", "issued_before": 5.0}])
async def test_what_says_not_clearly_what_is_revoked_is_refused(live: Freshet, asked: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as why:
        await live.revoke(**asked)
    assert why.value.code == 107


async def test_a_revocation_is_kept_as_long_as_a_token_can_be_valid(freshet_clock: ManualClock) -> None:
    live = live_of(freshet_clock, max_lifetime=3600)
    async with live.lifespan():
        assert await code_of(live, token=live.token("alice", expires_in=None)) == 3500
        assert await code_of(live, token=live.token("alice", expires_in=7200)) == 3500
        taken = live.token("alice", expires_in=3600, jti="1")
        await live.revoke(token="1")
        known = live._node.revoking.known
        await freshet_clock.advance(3599)
        assert await code_of(live, token=taken) == 3500
        await freshet_clock.advance(2)
        known.sweep()
        assert len(known) == 0
        assert await code_of(live, token=taken) == 109  # it has expired by itself


async def test_a_user_who_is_blocked_gets_in_when_the_time_is_over(live: Freshet, freshet_clock: ManualClock) -> None:
    async with live.test_client("alice") as client:
        await live.disconnect("alice", block=60)
        assert (await client.closed()).code == 3503
    assert await code_of(live, user="alice") == 3503
    assert await code_of(live, user="bob") == "in"
    await freshet_clock.advance(61)
    assert await code_of(live, user="alice") == "in"


async def test_a_block_counts_for_who_the_hook_says_that_it_is(live: Freshet) -> None:
    @live.on_connect
    def name(session: Any) -> Welcome:
        return Welcome(user="mallory")

    await live.disconnect("mallory", block=60)
    assert await code_of(live, user="alice") == 3503


# ------------------------------------------------------------------------------------------------ who comes back


def test_who_comes_back_to_a_stream_is_asked_again_before_anything_is_replayed(server: Server) -> None:
    for number in range(3):
        api(server, "publish", channel="open:back", data=number)
    vera = token("vera", claims={"jti": "v1"})
    url, stream = server.http("/channels/open:back"), {"Accept": "text/event-stream"}
    place = httpx.get(url, params={"token": vera}).json()
    since = f"{place['epoch']}:0"
    assert len(httpx.get(url, params={"token": vera, "since": since}).json()["publications"]) == 3
    api(server, "revoke", token="v1")
    headers = {"Authorization": f"Bearer {vera}", "Last-Event-ID": since}
    for answer in (
        httpx.get(url, params={"token": vera, "since": since}),
        httpx.get(url, headers=headers),
        httpx.get(url, headers=headers | stream),
        httpx.get(url, params={"token": vera, "since": since, "wait": "5"}),
    ):
        assert answer.status_code == 401
        assert "publications" not in answer.text
    with connect(server.ws(f"/channels/open:back?token={vera}&since={since}")) as socket:
        with pytest.raises(ConnectionClosed) as ending:
            socket.recv(timeout=seconds(5))
        assert ending.value.rcvd is not None
        assert ending.value.rcvd.code == 3500


async def test_who_comes_back_with_a_position_is_asked_again_before_anything_is_replayed(live: Freshet) -> None:
    allowed = {"alice"}
    rule = live.channel("kept:*", history=History(size=10, ttl=60))
    live._rules._rules.insert(0, live._rules._rules.pop())

    @rule.on_subscribe
    def may(session: Any) -> None:
        if session.user not in allowed:
            raise Refusal.permission_denied()

    await live.publish("kept:a", 1)
    place = Position((await live.history("kept:a")).position.epoch, 0)
    async with live.test_client("alice") as client:
        assert len((await client.subscribe("kept:a", since=place)).missed) == 1
        allowed.clear()
        with pytest.raises(Refusal) as why:
            await client.reconnect()
        assert why.value.code == 103
