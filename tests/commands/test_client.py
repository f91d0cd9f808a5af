"""Each command of a client, in the Centrifuge dialect without a network: what it answers, and how it is refused."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from freshet import Freshet, History, Position, Refusal, Session, Welcome
from freshet.config import Config, Limits
from freshet.dialects.centrifuge.requests import MESSAGE, REJECT_UNRECOVERED
from freshet.testing import ManualClock
from tests.tools.sessions import Wire, ask, code, connected, opened, refused, say, taken

SECRET = "a secret for tests, thirty-two bytes"
LIMITS = Limits(message_size=1000, channels_per_client=3)
FILTER = {"key": "kind", "cmp": "eq", "val": "goal"}


@pytest.fixture
async def live(freshet_clock: ManualClock) -> AsyncIterator[Freshet]:
    config = Config(limits=LIMITS, personal_channels=True)
    live = Freshet(secret=SECRET, environment={}, config=config, clock=freshet_clock)
    live.channel("log:{name}", history=History(size=3, ttl=60), presence=True, publish="client", delta=True)
    live.channel("quiet", publish="subscriber", read="client")
    live.channel("closed", subscribe="nobody", read="nobody")
    live.channel("private", subscribe="token")
    async with live.lifespan():
        yield live


@pytest.fixture
async def alice(live: Freshet) -> Session:
    return await connected(live, token=live.token("alice", expires_in=60))


async def published(live: Freshet, *values: Any, channel: str = "log:a") -> Position:
    return [await live.publish(channel, value) for value in values][-1]


# ------------------------------------------------------------------------------------------------------ the connection


async def test_connect_answers_who_it_is_and_how_long_it_may_stay(live: Freshet) -> None:
    session = opened(live)
    reply = (await ask(session, "connect", token=live.token("alice", expires_in=60, channels=["quiet"])))["connect"]
    assert reply["client"] == session.id
    assert (reply["ping"], reply["pong"], reply["ttl"], reply["expires"]) == (25, True, 60, True)
    assert sorted(reply["subs"]) == ["#alice", "quiet"]
    assert (session.user, session.connected, session.handshake) == ("alice", True, None)
    assert live.statistics().clients == live.statistics().users == 1


async def test_connect_without_a_token_is_refused_and_says_what_is_missing(live: Freshet) -> None:
    session = opened(live)
    assert await say(session, {"id": 1, "connect": {}}) == []
    assert session.outbox.closed is not None
    assert (code(session), session.outbox.closed.reason) == (3500, "a token is required")
    async with (open_to_nobody := Freshet(environment={})).lifespan():
        session = opened(open_to_nobody)
        await say(session, {"id": 1, "connect": {}})
        assert session.outbox.closed is not None
        assert "FRESHET_SECRET" in session.outbox.closed.reason


async def test_connect_with_an_expired_token_is_refused_so_that_the_client_gets_a_new_one(live: Freshet) -> None:
    session = opened(live)
    assert await refused(session, "connect", token=live.token("alice", expires_in=-1)) == 109
    assert code(session) is None
    assert "connect" in await ask(session, "connect", token=live.token("alice"))


async def test_connect_comes_once(alice: Session) -> None:
    await say(alice, {"id": 2, "connect": {}})
    assert code(alice) == 3501


async def test_what_the_hook_welcomes_a_client_with_comes_before_what_its_token_says(
    live: Freshet, freshet_clock: ManualClock
) -> None:
    @live.on_connect
    def welcome(session: Session, data: Any) -> Welcome:
        return Welcome(
            user="eve", info={"seen": session.user}, channels=["log:a"], data=data, expires=freshet_clock.now
        )

    session = opened(live)
    token = live.token("alice", info={"from": "token"}, channels=["quiet"])
    reply = (await ask(session, "connect", token=token, data={"n": 1}))["connect"]
    assert (reply["data"], reply["ttl"], sorted(reply["subs"])) == ({"n": 1}, 1, ["#eve", "log:a", "quiet"])
    assert (session.user, bytes(session.info)) == ("eve", b'{"seen":"alice"}')


async def test_the_hook_alone_may_say_who_a_client_is(live: Freshet) -> None:
    @live.on_connect
    def welcome(session: Session, data: str | None) -> Welcome | None:
        return Welcome(user=data) if data is not None else None

    assert (await connected(live, data="bob")).user == "bob"
    stranger = opened(live)
    await say(stranger, {"id": 1, "connect": {}})
    assert code(stranger) == 3500


async def test_a_connect_that_is_refused_leaves_the_client_where_it_was(live: Freshet) -> None:
    session = opened(live)
    assert await refused(session, "connect", token=live.token("alice", channels=["quiet", "none"])) == 102
    assert (session.connected, session.subscriptions) == (False, {})
    assert live.statistics().subscriptions == 0


async def test_what_a_client_missed_in_channels_of_the_server_comes_with_the_reply(live: Freshet) -> None:
    first = await published(live, 1)
    await published(live, 2, 3)
    session = opened(live)
    since = {"log:a": {"recover": True, "epoch": first.epoch, "offset": first.offset}}
    reply = await ask(session, "connect", token=live.token("alice", channels=["log:a"]), subs=since)
    entered = reply["connect"]["subs"]["log:a"]
    assert ([each["data"] for each in entered["publications"]], entered["recovered"]) == ([2, 3], True)


async def test_refresh_makes_a_clients_time_longer(live: Freshet, alice: Session, freshet_clock: ManualClock) -> None:
    reply = (await ask(alice, "refresh", token=live.token("alice", expires_in=600, role="boss")))["refresh"]
    assert (reply["client"], reply["expires"], reply["ttl"]) == (alice.id, True, 600)
    assert (alice.expires, alice.claims["role"]) == (freshet_clock.now + 600, "boss")


async def test_refresh_with_a_token_that_does_not_end(live: Freshet, alice: Session) -> None:
    reply = (await ask(alice, "refresh", token=live.token("alice", expires_in=None)))["refresh"]
    assert (alice.expires, "ttl" in reply) == (0.0, False)


@pytest.mark.parametrize("token", ["", "wrong", "bob"])
async def test_refresh_with_a_token_of_nobody_or_another_user_ends_the_session(
    live: Freshet, alice: Session, token: str
) -> None:
    await say(alice, {"id": 2, "refresh": {"token": live.token("bob") if token == "bob" else token}})
    assert code(alice) == 3500


async def test_refresh_goes_by_the_user_of_the_token_where_a_hook_gave_another(live: Freshet) -> None:
    @live.on_connect
    def welcome(session: Session) -> Welcome:
        return Welcome(user="admin:alice")

    session = await connected(live, token=live.token("alice"))
    assert "refresh" in await ask(session, "refresh", token=live.token("alice", expires_in=60))
    await say(session, {"id": 9, "refresh": {"token": live.token("admin:alice")}})
    assert code(session) == 3500


async def test_refresh_with_an_expired_token_is_refused(live: Freshet, alice: Session) -> None:
    assert await refused(alice, "refresh", token=live.token("alice", expires_in=-1)) == 109
    assert code(alice) is None


async def test_a_ping_is_answered(alice: Session) -> None:
    assert "error" not in await ask(alice, "ping")


# ------------------------------------------------------------------------------------------------------- subscriptions


async def test_subscribe_answers_with_the_place_where_the_live_flow_begins(live: Freshet, alice: Session) -> None:
    place = await published(live, 1, 2)
    reply = (await ask(alice, "subscribe", channel="log:a"))["subscribe"]
    assert (reply["recoverable"], Position(reply["epoch"], reply["offset"])) == (True, place)
    assert "publications" not in reply
    await published(live, 3)
    assert [each["push"]["pub"]["offset"] for each in await say(alice, {"id": 99, "ping": {}}) if "push" in each] == [3]


async def test_subscribe_since_a_place_replays_what_came_after_it(live: Freshet, alice: Session) -> None:
    first = await published(live, 1)
    await published(live, 2, 3)
    reply = await ask(alice, "subscribe", channel="log:a", recover=True, epoch=first.epoch, offset=first.offset)
    assert [each["data"] for each in reply["subscribe"]["publications"]] == [2, 3]
    assert reply["subscribe"]["recovered"] is True


@pytest.mark.parametrize("or_refuse", [False, True])
async def test_who_missed_too_much_is_told_so_or_refused_as_it_wants(
    live: Freshet, alice: Session, or_refuse: bool
) -> None:
    first = await published(live, 1)
    await published(live, 2, 3, 4, 5)
    request = {"channel": "log:a", "recover": True, "epoch": first.epoch, "offset": first.offset}
    flags = {"flag": REJECT_UNRECOVERED} if or_refuse else {}
    reply = await ask(alice, "subscribe", **request, **flags)
    if not or_refuse:
        assert (reply["subscribe"]["was_recovering"], reply["subscribe"].get("recovered", False)) == (True, False)
        assert "log:a" in alice.subscriptions
    else:
        assert reply["error"]["code"] == 112
        assert (list(alice.subscriptions), live.statistics().subscriptions) == (["#alice"], 1)
        assert await live.presence("log:a") == {}


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"channel": "none"}, 102),
        ({"channel": ""}, 107),
        ({"channel": "x" * 256}, 107),
        ({"channel": "closed"}, 103),
        ({"channel": "private"}, 103),
        ({"channel": "private", "token": "wrong"}, 103),
        ({"channel": "#bob"}, 103),
        ({"channel": "#alice"}, 105),
        ({"channel": "log:a", "delta": "fossil", "tf": FILTER}, 107),
        ({"channel": "log:a", "tf": {"key": "kind", "cmp": "like", "val": "x"}}, 107),
    ],
)
async def test_a_subscribe_that_is_refused_leaves_nothing_behind(
    live: Freshet, alice: Session, request_: Wire, why: int
) -> None:
    assert await refused(alice, "subscribe", **request_) == why
    assert (code(alice), list(alice.subscriptions), live.statistics().subscriptions) == (None, ["#alice"], 1)


async def test_subscribe_with_a_token_ends_with_it_and_shows_its_info(live: Freshet, alice: Session) -> None:
    late = live.token("alice", channel="private", expires_in=-1)
    assert await refused(alice, "subscribe", channel="private", token=late) == 109
    token = live.token("alice", channel="private", expires_in=40, info={"seat": 5})
    assert (await ask(alice, "subscribe", channel="private", token=token))["subscribe"]["ttl"] == 40
    assert bytes(alice.subscriptions["private"].info) == b'{"seat":5}'


async def test_a_filter_lets_through_what_the_client_wants(live: Freshet, alice: Session) -> None:
    assert "subscribe" in await ask(alice, "subscribe", channel="log:a", tf=FILTER)
    for number, kind in enumerate(["goal", "corner", "goal"]):
        await live.publish("log:a", number, tags={"kind": kind})
    replies = await say(alice, {"id": 99, "ping": {}})
    assert [each["push"]["pub"]["data"] for each in replies if "push" in each] == [0, 2]


async def test_differences_are_agreed_on_where_the_rule_has_them(live: Freshet, alice: Session) -> None:
    assert (await ask(alice, "subscribe", channel="log:a", delta="fossil"))["subscribe"]["delta"] is True
    assert "delta" not in (await ask(alice, "subscribe", channel="quiet", delta="fossil"))["subscribe"]


async def test_a_client_has_so_many_channels_and_no_more(alice: Session) -> None:
    for channel in ("log:a", "log:b"):  # beside its own
        assert "subscribe" in await ask(alice, "subscribe", channel=channel)
    assert await refused(alice, "subscribe", channel="log:c") == 106
    assert "unsubscribe" in await ask(alice, "unsubscribe", channel="log:a")
    assert "subscribe" in await ask(alice, "subscribe", channel="log:c")


async def test_unsubscribe_ends_a_subscription_or_finds_none(live: Freshet, alice: Session) -> None:
    await ask(alice, "subscribe", channel="log:a")
    assert len(await live.presence("log:a")) == 1
    for _ in range(2):
        assert (await ask(alice, "unsubscribe", channel="log:a"))["unsubscribe"] == {}
        assert (list(alice.subscriptions), await live.presence("log:a")) == (["#alice"], {})
    await published(live, 1)
    assert [each for each in await say(alice, {"id": 99, "ping": {}}) if "push" in each] == []


async def test_a_subscriptions_token_is_refreshed(live: Freshet, alice: Session) -> None:
    def token(seconds: float) -> str:
        return live.token("alice", channel="private", expires_in=seconds)

    assert await refused(alice, "sub_refresh", channel="private", token=token(60)) == 103
    await ask(alice, "subscribe", channel="private", token=token(60))
    assert (await ask(alice, "sub_refresh", channel="private", token=token(600)))["sub_refresh"]["ttl"] == 600
    assert await refused(alice, "sub_refresh", channel="private", token=token(-1)) == 109
    assert await refused(alice, "sub_refresh", channel="private", token="wrong") == 103


# ------------------------------------------------------------------------------------------------------------- channels


async def test_publish_takes_what_fits(live: Freshet, alice: Session) -> None:
    assert (await ask(alice, "publish", channel="log:a", data={"n": 1}))["publish"] == {}
    assert await refused(alice, "publish", channel="log:a", data="x" * MESSAGE) == 106
    assert "publish" in await ask(alice, "publish", channel="log:a", data="x" * (MESSAGE - 100))
    [first, second] = (await live.history("log:a")).publications
    assert (first.data, len(second.data)) == (b'{"n": 1}', MESSAGE - 98)
    assert first.info is not None
    assert (first.info.user, first.info.client) == ("alice", alice.id)


@pytest.mark.parametrize(("channel", "why"), [("closed", 103), ("quiet", 103), ("none", 102), ("#bob", 103)])
async def test_a_publish_that_is_not_allowed_is_refused(alice: Session, channel: str, why: int) -> None:
    assert await refused(alice, "publish", channel=channel, data=1) == why


async def test_history_is_read_by_pages(live: Freshet, alice: Session) -> None:
    await ask(alice, "subscribe", channel="log:a")
    place = await published(live, 1, 2, 3)

    async def page(**request: Any) -> list[int]:
        reply = (await ask(alice, "history", channel="log:a", **request))["history"]
        assert Position(reply["epoch"], reply["offset"]) == place
        return [each["data"] for each in reply["publications"]]

    since = {"epoch": place.epoch, "offset": 1}
    assert await page() == []
    assert await page(limit=-1) == [1, 2, 3]
    assert await page(limit=1, since=since) == [2]
    assert await page(limit=2, reverse=True) == [3, 2]
    await published(live, 4, 5)
    gone = {"epoch": place.epoch, "offset": 0}
    assert await refused(alice, "history", channel="log:a", limit=-1, since=gone) == 112
    assert await refused(alice, "history", channel="log:a", limit=0, since={"epoch": "other", "offset": 5}) == 112


async def test_presence_lists_who_is_there(live: Freshet, alice: Session) -> None:
    sessions = [alice, *[await connected(live, token=live.token(user)) for user in ("alice", "bob")]]
    for session in sessions:
        await ask(session, "subscribe", channel="log:a")
    clients = (await ask(alice, "presence", channel="log:a"))["presence"]["presence"]
    assert {client: info["user"] for client, info in clients.items()} == {each.id: each.user for each in sessions}
    stats = (await ask(alice, "presence_stats", channel="log:a"))["presence_stats"]
    assert stats == {"num_clients": 3, "num_users": 2}


@pytest.mark.parametrize("method", ["history", "presence", "presence_stats"])
@pytest.mark.parametrize(("channel", "why"), [("quiet", 108), ("closed", 103), ("log:a", 103), ("none", 102)])
async def test_what_is_not_kept_or_not_for_this_client_is_not_read(
    alice: Session, method: str, channel: str, why: int
) -> None:
    assert await refused(alice, method, channel=channel) == why


# ------------------------------------------------------------------------------------------------ the user's functions


async def test_a_method_of_the_servers_own_makes_no_application_with_methods() -> None:
    live = Freshet(dev=True, environment={})
    live.state("map:{id}")  # whose method is `state`
    async with live.lifespan():
        session = await connected(live)
        assert await refused(session, "rpc", method="double", data=2) == 108
        assert await refused(session, "rpc", method="state", data=2) == 107


async def test_rpc_answers_with_what_the_function_returns(live: Freshet, alice: Session) -> None:
    assert await refused(alice, "rpc", method="double", data=2) == 108

    @live.rpc("double")
    async def double(session: Session, data: int) -> Any:
        if data < 0:
            raise Refusal(2000, "below zero")
        return {"by": session.user, "is": data * 2}

    assert (await ask(alice, "rpc", method="double", data=21))["rpc"]["data"] == {"by": "alice", "is": 42}
    assert await refused(alice, "rpc", method="double", data=-1) == 2000
    assert await refused(alice, "rpc", method="double", data="two") == 107
    assert await refused(alice, "rpc", method="triple", data=1) == 104
    assert code(alice) is None


async def test_a_message_goes_to_the_function_that_takes_it_and_has_no_reply(live: Freshet, alice: Session) -> None:
    got: list[tuple[str, Any]] = []

    @live.on_message
    async def take(session: Session, data: Any) -> None:
        if data == "refuse":
            raise Refusal.bad_request()
        got.append((session.user, data))

    taken(alice)
    assert await say(alice, {"send": {"data": [1, 2]}}, {"send": {"data": "refuse"}}, {"send": {"data": 3}}) == []
    assert (got, code(alice)) == ([("alice", [1, 2]), ("alice", 3)], None)


async def test_a_message_that_nobody_takes_ends_the_session(alice: Session) -> None:
    await say(alice, {"send": {"data": 1}})
    assert code(alice) == 3508
