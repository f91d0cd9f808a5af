"""Rights: tokens, whether the verifier answers at once or later, personal channels, and what a rule lets clients do."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

import msgspec
import pytest

from freshet.commands.dispatch import Dispatcher
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.errors import Disconnect, Refusal
from freshet.model.commands import (
    Call,
    Command,
    Connect,
    Ping,
    Publish,
    ReadHistory,
    ReadPresence,
    ReadPresenceStats,
    Refresh,
    RefreshSubscription,
    Send,
    Subscribe,
    Unsubscribe,
)
from freshet.model.frame import Handshake
from freshet.policy.authentication import why_nobody
from freshet.policy.base import Context, Grant
from freshet.policy.claims import ConnectionClaims, SubscriptionClaims
from freshet.policy.rights import Rights
from freshet.policy.tokens import TokenVerifier, Verifier
from freshet.rules.capabilities import Capabilities, Capability, Deed
from freshet.rules.rules import ChannelRule
from freshet.session.session import Session
from freshet.session.subscription import Issued
from freshet.testing import ManualClock
from tests.tools.sessions import came, running

SECRET = "a secret for tests, thirty-two bytes"
OPEN = ChannelRule("*")
Who = Literal["nobody", "subscriber", "client"]


class LaterVerifier:
    """One that has to wait before it can decide, as for a key that it fetches."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    async def connection(self, token: str) -> ConnectionClaims:
        await asyncio.sleep(0)
        return self._verifier.connection(token)

    async def subscription(self, token: str, channel: str, user: str) -> SubscriptionClaims:
        await asyncio.sleep(0)
        return self._verifier.subscription(token, channel, user)


@pytest.fixture
def tokens(freshet_clock: ManualClock) -> TokenVerifier:
    return TokenVerifier(SECRET, clock=freshet_clock)


@pytest.fixture(params=["at once", "later"])
def verifier(request: pytest.FixtureRequest, tokens: TokenVerifier) -> Verifier:
    return LaterVerifier(tokens) if request.param == "later" else tokens


@pytest.fixture
async def dispatcher() -> AsyncIterator[Dispatcher]:
    async with running(OPEN) as dispatcher:
        yield dispatcher


@pytest.fixture
async def alice(dispatcher: Dispatcher) -> Session:
    """Subscribed to `mine`."""
    return await came(dispatcher, "alice", "mine")


async def checked(
    rights: Rights, session: Session | None, command: Command, rule: ChannelRule | None = None
) -> Context:
    """What was found out. Raises what the policy raises, at once or when it is awaited."""
    context = Context(session, rule)
    pending = rights.check(context, command)
    if pending is not None:
        await pending
    return context


async def refused(rights: Rights, session: Session, command: Command, rule: ChannelRule | None = None) -> int:
    with pytest.raises((Refusal, Disconnect)) as error:
        await checked(rights, session, command, rule)
    assert isinstance(error.value, Refusal | Disconnect)
    return error.value.code


def rights_of(tokens: Verifier | None = None, *, personal_channels: bool = False) -> Rights:
    return Rights(tokens, personal_channels=personal_channels)


# --------------------------------------------------------------------------------------------------------- connections


@pytest.mark.parametrize("kind", [Connect, Refresh])
async def test_a_connections_token_says_who_it_is(
    kind: Any, verifier: Verifier, tokens: TokenVerifier, alice: Session, freshet_clock: ManualClock
) -> None:
    token = tokens.issue("alice", expires_in=60, info={"a": 1}, channels=["news"])
    context = await checked(rights_of(verifier), alice, kind(token=token))
    assert context.claims is not None
    assert (context.claims.user, context.claims.expires_at) == ("alice", freshet_clock.now + 60)
    assert (bytes(context.claims.info), context.claims.channels) == (b'{"a":1}', ["news"])


@pytest.mark.parametrize("kind", [Connect, Refresh])
async def test_a_connections_token_that_is_not_right_is_refused(
    kind: Any, verifier: Verifier, tokens: TokenVerifier, alice: Session
) -> None:
    rights = rights_of(verifier)
    assert await refused(rights, alice, kind(token=tokens.issue("alice", expires_in=-1))) == 109
    assert await refused(rights, alice, kind(token="wrong")) == 3500
    assert await refused(rights, alice, kind(token=tokens.issue("alice", channel="a"))) == 3500


async def test_only_a_verifier_that_has_to_wait_costs_a_coroutine(tokens: TokenVerifier, alice: Session) -> None:
    connecting = Connect(token=tokens.issue("alice"))
    subscribing = Subscribe("a", token=tokens.issue("alice", channel="a"))
    for command in (connecting, subscribing):
        assert rights_of(tokens).check(Context(alice, OPEN), command) is None
        pending = rights_of(LaterVerifier(tokens)).check(Context(alice, OPEN), command)
        assert pending is not None
        await pending


async def test_a_connection_without_a_token_is_left_to_the_command(verifier: Verifier, alice: Session) -> None:
    """Which knows whether a hook says who it is, and whether clients may be anonymous."""
    for rights in (rights_of(verifier), rights_of(None)):
        assert (await checked(rights, alice, Connect())).claims is None


async def test_without_a_secret_no_token_is_right(alice: Session) -> None:
    with pytest.raises(Disconnect, match="FRESHET_SECRET") as error:
        await checked(rights_of(None), alice, Connect(token="any"))
    assert error.value.code == 3500
    with pytest.raises(Refusal, match="no secret") as refusal:
        await checked(rights_of(None), alice, Subscribe("a", token="any"), OPEN)
    assert refusal.value.code == 103


def test_who_may_not_connect_is_told_what_is_missing(tokens: TokenVerifier) -> None:
    assert "FRESHET_SECRET" in why_nobody(None)
    assert why_nobody(tokens) == "a token is required"


# ------------------------------------------------------------------------------------------------------- subscriptions


async def test_a_subscriptions_token_grants_its_info_and_its_time(
    verifier: Verifier, tokens: TokenVerifier, alice: Session, freshet_clock: ManualClock
) -> None:
    token = tokens.issue("alice", channel="a", expires_in=60, info={"seat": 5})
    for rule in (OPEN, ChannelRule("*", subscribe="token")):
        context = await checked(rights_of(verifier), alice, Subscribe("a", token=token), rule)
        issued = Issued(None, freshet_clock.now)
        assert context.grant == Grant(msgspec.Raw(b'{"seat":5}'), freshet_clock.now + 60, issued)
    endless = tokens.issue("alice", channel="a", claims={"jti": "1"})
    granted = (await checked(rights_of(verifier), alice, Subscribe("a", token=endless), OPEN)).grant
    assert granted == Grant(issued=Issued("1", freshet_clock.now))


@pytest.mark.parametrize(
    ("user", "options", "why"),
    [
        ("bob", {"channel": "mine"}, 103),
        ("alice", {"channel": "other"}, 103),
        ("alice", {}, 103),
        ("alice", {"channel": "mine", "expires_in": -1}, 109),
    ],
    ids=["another user", "another channel", "a connection's", "expired"],
)
async def test_a_subscriptions_token_that_is_not_right_is_refused(
    verifier: Verifier, tokens: TokenVerifier, dispatcher: Dispatcher, user: str, options: dict[str, Any], why: int
) -> None:
    rights, token = rights_of(verifier), tokens.issue(user, **options)
    alice, inside = await came(dispatcher, "alice"), await came(dispatcher, "alice", "mine")
    assert await refused(rights, alice, Subscribe("mine", token=token), OPEN) == why
    assert await refused(rights, inside, RefreshSubscription("mine", token)) == why
    assert await refused(rights, inside, RefreshSubscription("mine", "wrong")) == 103


async def test_a_subscription_is_refreshed_by_who_has_it(
    verifier: Verifier, tokens: TokenVerifier, alice: Session, freshet_clock: ManualClock
) -> None:
    rights = rights_of(verifier)
    command = RefreshSubscription("mine", tokens.issue("alice", channel="mine", expires_in=60))
    assert (await checked(rights, alice, command)).grant.expires == freshet_clock.now + 60
    elsewhere = RefreshSubscription("other", tokens.issue("alice", channel="other"))
    assert await refused(rights, alice, elsewhere) == 103


@pytest.mark.parametrize(("subscribe", "why"), [("nobody", 103), ("token", 103), ("client", None)])
async def test_a_rule_says_who_subscribes_without_a_token(
    tokens: TokenVerifier, alice: Session, subscribe: Any, why: int | None
) -> None:
    rule = ChannelRule("*", subscribe=subscribe)
    if why is None:
        assert (await checked(rights_of(tokens), alice, Subscribe("a"), rule)).grant == Grant()
    else:
        assert await refused(rights_of(tokens), alice, Subscribe("a"), rule) == why


async def test_where_only_the_server_subscribes_a_token_is_of_no_use(tokens: TokenVerifier, alice: Session) -> None:
    command = Subscribe("a", token=tokens.issue("alice", channel="a"))
    with pytest.raises(Refusal, match="only the server subscribes"):
        await checked(rights_of(tokens), alice, command, ChannelRule("*", subscribe="nobody"))


async def test_who_is_in_the_channel_is_told_that_rather_than_that_it_may_not(alice: Session) -> None:
    with pytest.raises(Refusal) as refusal:
        await checked(rights_of(None), alice, Subscribe("mine", token="wrong"), ChannelRule("*", subscribe="nobody"))
    assert refusal.value.code == 105


# --------------------------------------------------------------------------------------------------- personal channels


def in_channel(channel: str) -> list[Command]:
    return [
        Subscribe(channel),
        Publish(channel, b"1"),
        ReadHistory(channel),
        ReadPresence(channel),
        ReadPresenceStats(channel),
    ]


@pytest.mark.parametrize("number", range(5))
async def test_nobody_has_business_in_anothers_personal_channel(alice: Session, number: int) -> None:
    free = ChannelRule("*", publish="client", read="client")
    theirs, own = (in_channel(channel)[number] for channel in ("#bob", "#alice"))
    with pytest.raises(Refusal, match="belongs to another user") as refusal:
        await checked(rights_of(personal_channels=True), alice, theirs, free)
    assert refusal.value.code == 103
    await checked(rights_of(personal_channels=True), alice, own, free)
    await checked(rights_of(personal_channels=False), alice, theirs, free)  # then it is a name like any other


async def test_the_anonymous_have_no_business_in_anyones_personal_channel(dispatcher: Dispatcher) -> None:
    nobody = await came(dispatcher, "")
    rights = rights_of(personal_channels=True)
    assert await refused(rights, nobody, Subscribe("#alice"), OPEN) == 103
    await checked(rights, nobody, Subscribe("news"), OPEN)


# --------------------------------------------------------------------------------------------- publishing and reading


@pytest.mark.parametrize(
    ("who", "inside", "may"),
    [
        ("nobody", False, False),
        ("nobody", True, False),
        ("subscriber", False, False),
        ("subscriber", True, True),
        ("client", False, True),
        ("client", True, True),
    ],
)
@pytest.mark.parametrize("number", range(1, 5))
async def test_a_rule_says_who_publishes_and_who_reads(
    alice: Session, who: Who, inside: bool, may: bool, number: int
) -> None:
    """The other of the two options is what it does not go by."""
    other: Who = "nobody" if may else "client"
    publishes = number == 1
    rule = ChannelRule("*", publish=who if publishes else other, read=other if publishes else who)
    command = in_channel("mine" if inside else "other")[number]
    if may:
        await checked(rights_of(), alice, command, rule)
        return
    with pytest.raises(Refusal) as refusal:
        await checked(rights_of(), alice, command, rule)
    assert refusal.value.code == 103
    assert ("publish in" if publishes else "read") in refusal.value.message
    assert refusal.value.message.startswith("only subscribers" if who == "subscriber" else "clients may not")
    assert refusal.value.message.endswith(f'see {"publish" if publishes else "read"} = "{who}" in its rule')


async def test_what_a_rule_says_nothing_of_may_be_asked_by_everybody(alice: Session) -> None:
    closed = ChannelRule("*", subscribe="nobody", read="nobody")
    for command in (Ping(), Call("method"), Send(b"1"), Unsubscribe("mine")):
        assert rights_of().check(Context(alice), command) is None
        assert rights_of(personal_channels=True).check(Context(alice, closed), command) is None


async def test_the_server_may_do_everything() -> None:
    closed = ChannelRule("*", subscribe="nobody", read="nobody")
    for command in in_channel("#bob"):
        assert rights_of(personal_channels=True).check(Context(None, closed), command) is None


# --------------------------------------------------------------------------------------------------------- capabilities

COMMANDS: dict[Deed, type[Command]] = {
    "subscribe": Subscribe,
    "publish": Publish,
    "history": ReadHistory,
    "presence": ReadPresence,
}
LEVELS = {
    "subscribe": ("nobody", "token", "client"),
    "publish": ("nobody", "token", "subscriber", "client"),
    "history": ("nobody", "token", "subscriber", "client"),
    "presence": ("nobody", "token", "subscriber", "client"),
}
# What each level of a rule makes of a token without `caps`, with caps that allow it, with caps that do not; None: as it
# is for who is subscribed. This is the table of docs/guide/authentication.md.
MEANING: dict[str, tuple[bool | None, bool | None, bool]] = {
    "nobody": (False, False, False),
    "token": (False, True, False),
    "subscriber": (None, None, False),
    "client": (True, True, False),
}


@pytest.mark.parametrize(("deed", "level"), [(deed, level) for deed, levels in LEVELS.items() for level in levels])
@pytest.mark.parametrize("caps", [None, "allowed", "not allowed"])
@pytest.mark.parametrize("inside", [False, True])
async def test_the_rule_says_what_is_possible_and_caps_what_of_that_is_allowed(
    alice: Session, deed: Deed, level: str, caps: str | None, inside: bool
) -> None:
    channel = "mine" if inside and deed != "subscribe" else "other"
    option = {"history": "read", "presence": "read"}.get(deed, deed)
    rule = ChannelRule("*", **{option: level})  # type: ignore[arg-type]
    others: list[Deed] = [each for each in COMMANDS if each != deed]
    listed = {"allowed": [Capability(["*"], [deed])], "not allowed": [Capability(["*"], others)]}
    alice.caps = Capabilities(listed[caps]) if caps else None
    may = MEANING[level][[None, "allowed", "not allowed"].index(caps)]
    if may is None:
        may = inside
    kinds = [COMMANDS[deed], *([ReadPresenceStats] if deed == "presence" else [])]
    for kind in kinds:
        command = kind(channel, b"1") if kind is Publish else kind(channel)  # type: ignore[call-arg]
        if may:
            await checked(rights_of(), alice, command, rule)
        else:
            assert await refused(rights_of(), alice, command, rule) == 103


async def test_a_subscription_token_counts_whatever_caps_say_but_not_where_nobody_may(
    verifier: Verifier, tokens: TokenVerifier, alice: Session
) -> None:
    alice.caps = Capabilities([])
    command = Subscribe("a", token=tokens.issue("alice", channel="a"))
    for subscribe in ("token", "client"):
        await checked(rights_of(verifier), alice, command, ChannelRule("*", subscribe=subscribe))  # type: ignore[arg-type]
    assert await refused(rights_of(verifier), alice, command, ChannelRule("*", subscribe="nobody")) == 103


async def test_what_the_server_subscribed_is_not_prolonged_by_a_token(tokens: TokenVerifier) -> None:
    async with running(ChannelRule("*", subscribe="nobody")) as dispatcher:
        alice = await came(dispatcher, "alice", "mine")
        command = RefreshSubscription("mine", tokens.issue("alice", channel="mine", expires_in=6000))
        assert await refused(rights_of(tokens), alice, command) == 103


# -------------------------------------------------------------------------------------------- what has expired, and who

ASKED: list[Command] = [
    Subscribe("other"),
    *in_channel("mine")[1:],
    Call("method"),
    Send(b"1"),
    RefreshSubscription("mine", "x"),
]


@pytest.mark.parametrize("command", ASKED, ids=lambda command: type(command).__name__)
async def test_who_has_expired_may_refresh_and_nothing_else(
    tokens: TokenVerifier, alice: Session, freshet_clock: ManualClock, command: Command
) -> None:
    rights = Rights(tokens, personal_channels=False, clock=freshet_clock)
    free = ChannelRule("*", publish="client", read="client")
    alice.expires = freshet_clock.now
    with pytest.raises(Refusal) as refusal:
        await checked(rights, alice, command, free)
    assert (refusal.value.code, refusal.value.temporary) == (110, True)
    for may in (Refresh(tokens.issue("alice")), Ping(), Unsubscribe("mine")):
        await checked(rights, alice, may, free)
    alice.expires = freshet_clock.now + 1
    if not isinstance(command, RefreshSubscription):
        await checked(rights, alice, command, free)


@pytest.mark.parametrize("number", range(1, 5))
async def test_a_subscription_that_has_expired_gives_no_rights(
    alice: Session, freshet_clock: ManualClock, number: int
) -> None:
    rights = Rights(None, personal_channels=False, clock=freshet_clock)
    rule = ChannelRule("*", publish="subscriber", read="subscriber")
    command = in_channel("mine")[number]
    alice.subscriptions["mine"].expires = freshet_clock.now + 1
    await checked(rights, alice, command, rule)
    alice.subscriptions["mine"].expires = freshet_clock.now
    assert await refused(rights, alice, command, rule) == 103


async def test_a_token_that_came_with_the_request_counts_where_the_command_has_none(
    verifier: Verifier, tokens: TokenVerifier, dispatcher: Dispatcher
) -> None:
    offered = ("freshet", f"freshet.token.{tokens.issue('alice')}")
    session = dispatcher.open(Centrifuge(), Handshake("/", subprotocols=offered))
    for command, user in ((Connect(), "alice"), (Connect(token=tokens.issue("bob")), "bob")):
        context = await checked(rights_of(verifier), session, command)
        assert context.claims is not None
        assert (context.claims.user, context.carried) == (user, user == "alice")
    assert (await checked(rights_of(None), session, Connect())).claims is None  # there is nothing to check it with
    assert (await checked(rights_of(verifier), session, Refresh(""))).claims is None  # which the command refuses
