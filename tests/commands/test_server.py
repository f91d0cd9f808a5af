"""What the server does by its own will, in Python: `live.broadcast(...)` and the like."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from freshet import Disconnect, Freshet, History, Refusal, Session
from freshet.config import Config, Timing
from freshet.testing import Client, ManualClock

SECRET = "a secret for tests, thirty-two bytes"
KEY = "a key for tests"


@pytest.fixture
def live(freshet_clock: ManualClock) -> Freshet:
    live = Freshet(secret=SECRET, api_key=KEY, clock=freshet_clock, config=Config(timing=Timing(expiry_grace=1)))
    live.channel("news:{topic}", history=History(size=10, ttl=60))
    live.channel("quiet")
    return live


@pytest.fixture
async def alice(live: Freshet) -> AsyncIterator[Client]:
    async with live.test_client("alice", expires_in=60) as alice:
        yield alice


async def test_a_broadcast_reaches_each_channel_once(live: Freshet, alice: Client) -> None:
    await alice.subscribe("news:a")
    await alice.subscribe("news:b")
    positions = await live.broadcast(["news:a", "news:b"], {"text": "hello"}, tags={"event": "greeting"})
    assert [it.offset for it in positions] == [1, 1]
    for channel in ("news:a", "news:b"):
        received = await alice.receive(channel)
        assert (received.data, received.tags) == ({"text": "hello"}, {"event": "greeting"})
    await alice.expect_nothing()


async def test_a_broadcast_to_a_channel_without_a_rule_says_so(live: Freshet, alice: Client) -> None:
    with pytest.raises(Refusal, match="unheard") as refusal:
        await live.broadcast(["unheard"], 1)
    assert refusal.value.code == 102


async def test_who_missed_what_was_removed_is_told_that_it_is_lost(live: Freshet, alice: Client) -> None:
    first = await live.publish("news:a", 1)
    second = await live.publish("news:a", 2)
    await live.remove_history("news:a")
    lost = await alice.subscribe("news:a", since=first)
    assert (lost.recovered, lost.missed, lost.position) == (False, [], second)
    await alice.unsubscribe("news:a")
    assert (await alice.subscribe("news:a", since=second)).recovered
    assert (await live.publish("news:a", 3)) == second._replace(offset=3)
    assert (await alice.receive()).data == 3


@pytest.mark.usefixtures("alice")
async def test_only_a_log_can_be_removed(live: Freshet) -> None:
    with pytest.raises(Refusal, match="keeps no history"):
        await live.remove_history("quiet")


async def test_channels_are_counted_while_someone_listens(live: Freshet, alice: Client) -> None:
    await alice.subscribe("news:a")
    await alice.subscribe("quiet")
    assert await live.channels() == {"news:a": 1, "quiet": 1}
    assert await live.channels("news:?") == {"news:a": 1}
    await alice.unsubscribe("news:a")
    assert await live.channels("news:*") == {}


async def test_a_users_time_can_be_made_longer_and_shorter(
    live: Freshet, alice: Client, freshet_clock: ManualClock
) -> None:
    await live.refresh("alice", expires=freshet_clock.now + 600)
    await freshet_clock.advance(500)
    assert await live.channels() == {}
    await alice.subscribe("quiet")
    await live.refresh("alice", expires=freshet_clock.now + 1)
    await freshet_clock.advance(3)
    assert (await alice.closed()).code == 3005


async def test_a_users_time_can_be_without_an_end(live: Freshet, alice: Client, freshet_clock: ManualClock) -> None:
    await live.refresh("alice")
    await freshet_clock.advance(10_000)
    await alice.subscribe("quiet")


async def test_a_subscription_by_the_server_ends_at_its_time(
    live: Freshet, alice: Client, freshet_clock: ManualClock
) -> None:
    request = {"user": "alice", "channel": "quiet", "expire_at": int(freshet_clock.now) + 5}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(live), base_url="http://test") as http:
        answer = await http.post("/api/subscribe", json=request, headers={"X-API-Key": KEY})
    assert answer.json() == {"result": {}}
    assert (await alice.event("subscribe")).channel == "quiet"
    await freshet_clock.advance(4)
    assert await live.channels() == {"quiet": 1}
    await freshet_clock.advance(3)
    assert (await alice.event("unsubscribe")).data["code"] == 2501


async def test_one_of_a_users_clients_can_be_meant(live: Freshet, alice: Client) -> None:
    async with live.test_client("alice") as other:
        await live.subscribe("alice", "quiet", client=other.id)
        assert (await other.event("subscribe")).channel == "quiet"
        assert await live.channels() == {"quiet": 1}
        await live.unsubscribe("alice", "quiet", client=alice.id)
        assert await live.channels() == {"quiet": 1}
        await live.disconnect("alice", client=alice.id)
        assert (await alice.closed()).code == 3503
        await live.unsubscribe("alice", "quiet", client=other.id)
        assert (await other.event("unsubscribe")).channel == "quiet"


async def test_a_user_that_is_disconnected_while_its_hook_decides_does_not_connect(live: Freshet) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    @live.on_connect
    async def decide(session: Session) -> None:
        asked.set()
        await go.wait()

    async with live.lifespan():
        mallory, other = (live.test_client(user) for user in ("mallory", "other"))
        coming = [asyncio.create_task(client.connect()) for client in (mallory, other)]
        await asked.wait()
        await live.disconnect("mallory")
        go.set()
        with pytest.raises(Disconnect) as why:
            await coming[0]
        assert why.value.code == 3503
        await coming[1]
        assert live.statistics().clients == 1
        await other.disconnect()
