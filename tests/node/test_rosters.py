"""Who is in a channel, as a state that any client subscribes to, in one process."""

from typing import Any
from unittest.mock import AsyncMock

import pytest

from freshet import Freshet, Refusal
from freshet.errors import ConfigError, EngineUnavailable
from freshet.testing import Client, ManualClock
from tests.rooms.test_rooms import application
from tests.tools.patience import eventually


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def live(clock: ManualClock) -> Freshet:
    live = application(clock)
    live.channel("here:*", presence=True, read="client")
    live.channel("closed:*", presence=True)
    live.channel("plain:*")
    live.channel("clients:*", state={"of": "clients"})
    live.channel("users:*", state={"of": "users"})
    return live


def followed(live: Freshet) -> list[str]:
    return [channel for channel in live._node.hub._channels if channel.startswith(("here:", "clients:", "users:"))]


async def data(client: Client) -> Any:
    return (await client.receive()).data


async def test_any_client_gets_all_who_are_there_and_then_who_comes_and_goes(live: Freshet) -> None:
    async with live.test_client("alice") as alice, live.test_client("bob") as bob, live.test_client("eve") as eve:
        await alice.subscribe("here:1")
        for watching in (eve, bob):
            await watching.subscribe("users:here:1")
            assert await data(watching) == {"state": {"alice": {}}}
        await bob.subscribe("here:1")
        assert await data(eve) == {"key": "bob", "value": {}}
        await alice.unsubscribe("here:1")
        assert await data(eve) == {"key": "alice", "removed": True}
        await bob.disconnect()
        assert await data(eve) == {"key": "bob", "removed": True}
        await eve.expect_nothing()


async def test_who_is_in_a_channel_is_not_notified_of_others_for_that(live: Freshet) -> None:
    async with live.test_client("alice") as alice, live.test_client("bob") as bob, live.test_client("eve") as eve:
        await eve.subscribe("clients:here:1")
        await alice.subscribe("here:1")
        await bob.subscribe("here:1")
        await alice.expect_nothing()
        assert not alice._events


async def test_a_channel_is_followed_as_long_as_somebody_wants_to_know(live: Freshet) -> None:
    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        for client in (alice, bob):
            await client.subscribe("clients:here:1")
            await data(client)
        assert followed(live) == ["clients:here:1", "here:1"]
        await alice.unsubscribe("clients:here:1")
        assert "here:1" in followed(live)
        await bob.disconnect()
        await eventually(lambda: followed(live) == [])
        await alice.subscribe("here:1")
        await alice.subscribe("users:here:1")
        assert await data(alice) == {"state": {"alice": {}}}


async def test_what_was_lost_on_the_way_is_put_right(
    live: Freshet, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live.test_client("alice") as alice, live.test_client("bob") as bob, live.test_client("eve") as eve:
        await alice.subscribe("here:1")
        await eve.subscribe("users:here:1")
        assert await data(eve) == {"state": {"alice": {}}}
        with monkeypatch.context() as lossy:
            lossy.setattr(live._node.engine, "_deliver", lambda event: None)
            await alice.unsubscribe("here:1")
            await bob.subscribe("here:1")
        await eve.expect_nothing()
        await clock.advance(live.config.timing.presence_ttl / 2 + 1)
        assert [await data(eve), await data(eve)] == [{"key": "alice", "removed": True}, {"key": "bob", "value": {}}]


async def test_who_wants_to_know_while_the_engine_is_away_is_told_so_and_may_try_again(
    live: Freshet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live.test_client("alice") as alice, live.test_client("eve") as eve:
        await alice.subscribe("here:1")
        with monkeypatch.context() as away:
            away.setattr(live._node.engine, "presence", AsyncMock(side_effect=EngineUnavailable("away")))
            with pytest.raises(Refusal) as why:
                await eve.subscribe("users:here:1")
            assert why.value.temporary
        assert followed(live) == ["here:1"]
        await eve.subscribe("users:here:1")
        assert await data(eve) == {"state": {"alice": {}}}


async def test_one_must_be_allowed_to_read_presence_there(live: Freshet) -> None:
    async with live.test_client("eve") as eve:
        with pytest.raises(Refusal) as why:
            await eve.subscribe("clients:closed:1")
        assert why.value.code == 103
        await eve.subscribe("closed:1")
        await eve.subscribe("users:closed:1")
        assert await data(eve) == {"state": {"eve": {}}}


@pytest.mark.parametrize(("channel", "code"), [("plain:1", 108), ("none:1", 102), ("clients:here:1", 108)])
async def test_a_channel_without_presence_cannot_be_shown(live: Freshet, channel: str, code: int) -> None:
    async with live.test_client("eve") as eve:
        with pytest.raises(Refusal) as why:
            await eve.subscribe(f"clients:{channel}")
        assert why.value.code == code
        with pytest.raises(Refusal) as why:
            await live.entries(f"clients:{channel}")
        assert why.value.code == code


async def test_the_server_reads_it_and_nobody_writes_it(live: Freshet) -> None:
    async with live.test_client("alice") as alice:
        await alice.subscribe("here:1")
        assert await live.entries("users:here:1") == {"alice": {}}
        with pytest.raises(Refusal, match="cannot be changed"):
            await live.set_entry("users:here:1", "bob", {})
        with pytest.raises(Refusal, match="shows who is in another channel"):
            await live.publish("users:here:1", "hello")
        with pytest.raises(Refusal) as why:
            await alice.publish("users:here:1", {"key": "bob", "value": 1})
        assert why.value.code == 103


@pytest.mark.parametrize(
    ("match", "options", "path"),
    [
        ("clients:{id}", {}, "state.of"),
        ("*:clients:*", {}, "state.of"),
        ("clients:1", {}, "state.of"),
        ("*", {}, "state.of"),
        ("clients:*", {"state": {"of": "clients", "ttl": 5}}, "state"),
        ("clients:*", {"delta": True}, "delta"),
        ("clients:*", {"state": {"of": "rooms"}}, "state.of"),
        ("clients:*", {"publish": "client"}, "publish"),
        ("clients:*", {"history": {"size": 1, "ttl": 1}}, "history"),
    ],
)
def test_options_that_do_not_fit_are_refused_at_once(match: str, options: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as why:
        application().channel(match, **{"state": {"of": "clients"}, **options})
    assert why.value.path == path


def test_a_room_shows_nobody_of_another_channel() -> None:
    with pytest.raises(ConfigError, match=r"live\.channel"):
        application().state("clients:*", of="clients", publish="nobody")
