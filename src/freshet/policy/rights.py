"""Who may do what: tokens, and what a channel's rule says of it."""

from collections.abc import Awaitable, Callable
from typing import Any

from freshet.errors import Disconnect, Refusal
from freshet.model.commands import (
    AskRoom,
    Command,
    Connect,
    Manage,
    Ping,
    Publish,
    ReadHistory,
    ReadPresence,
    ReadPresenceStats,
    Refresh,
    RefreshSubscription,
    Subscribe,
    Unsubscribe,
)
from freshet.model.frame import Handshake
from freshet.policy.authentication import why_nobody
from freshet.policy.base import Context, Grant, Policy
from freshet.policy.claims import ConnectionClaims, SubscriptionClaims
from freshet.policy.tokens import Verifier
from freshet.rules.capabilities import Capabilities, Deed
from freshet.rules.rules import personal_channel
from freshet.runtime.clock import SYSTEM, Clock
from freshet.session.session import Session

Pending = Awaitable[None] | None


_WORDS: dict[Deed, str] = {
    "publish": "publish in",
    "manage": "create, close or delete the stream",
    "history": "read",
    "presence": "read",
}

_DEEDS: dict[type[Command], tuple[Deed, str]] = {
    Manage: ("manage", "manage"),
    Publish: ("publish", "publish"),
    ReadHistory: ("history", "read"),
    ReadPresence: ("presence", "read"),
    ReadPresenceStats: ("presence", "read"),
}
"""What a command does to its channel, and the rule's option that says who may."""

# What a client may still do whose token has expired, until it has a new one.
AFTER_EXPIRY = frozenset({Connect, Refresh, Ping, Unsubscribe})


class Rights(Policy):
    """What the client's token and the channel's rule say of a command. The server itself may do everything.

    tokens: None when there is no secret, so that no token can be right. personal_channels: the option of that name.
    carried: the token that came with a request, for a client that shows none itself.
    """

    name = "rights"

    def __init__(
        self,
        tokens: Verifier | None,
        *,
        personal_channels: bool,
        carried: Callable[[Handshake], str] = lambda request: request.token,
        clock: Clock = SYSTEM,
    ) -> None:
        self._tokens = tokens
        self._personal_channels = personal_channels
        self._carried = carried
        self._wall = clock.wall
        self._checks: dict[type[Command], Any] = {
            AskRoom: self._ask,
            Connect: self._connect,
            Refresh: self._connect,
            RefreshSubscription: self._refresh_subscription,
            Subscribe: self._subscribe,
        }

    def check(self, context: Context, command: Command) -> Pending:
        session, rule = context.session, context.rule
        if session is None:
            return None
        if session.expires and type(command) not in AFTER_EXPIRY and session.expires <= self._wall():
            raise Refusal(110, "the connection's token has expired: refresh it", temporary=True)
        if self._personal_channels and rule is not None:
            _only_ones_own(session, getattr(command, "channel", ""))
        kind = type(command)
        if kind in _DEEDS:
            deed, option = _DEEDS[kind]
            if (who := getattr(rule, option)) != "client" or session.caps is not None:
                self._allowed(session, who, deed, option, command.channel)  # type: ignore[attr-defined]
            return None
        check = self._checks.get(kind)
        pending: Pending = check(context, session, command) if check is not None else None
        return pending

    # --------------------------------------------------------------------------------------------------- tokens

    def _connect(self, context: Context, session: Session, command: Connect | Refresh) -> Pending:
        """Raises `Refusal` 109 for a token that has expired, so that the client gets a new one; else `Disconnect`."""
        token = command.token
        if not token and type(command) is Connect and self._tokens is not None and session.handshake is not None:
            token = self._carried(session.handshake)
            context.carried = bool(token)
        if not token:
            return None
        if self._tokens is None:
            raise Disconnect.invalid_token(why_nobody(None))
        claims = self._tokens.connection(token)
        if isinstance(claims, ConnectionClaims):
            context.claims = claims
            return None
        return _later_connection(context, claims)

    def _subscription(self, context: Context, session: Session, command: Subscribe | RefreshSubscription) -> Pending:
        """Raises `Refusal` 103, or 109 for a token that has expired."""
        if self._tokens is None:
            raise Refusal.permission_denied("the server has no secret to check the token with")
        claims = self._tokens.subscription(command.token, command.channel, session.user)
        if isinstance(claims, SubscriptionClaims):
            context.grant = _grant(claims)
            return None
        return _later_subscription(context, claims)

    def _refresh_subscription(self, context: Context, session: Session, command: RefreshSubscription) -> Pending:
        subscription = session.subscriptions.get(command.channel)
        if subscription is None:
            raise Refusal.permission_denied("not subscribed")
        if subscription.rule.subscribe == "nobody":
            raise _denied(f"only the server subscribes to {command.channel!r}, and for how long", "subscribe", "nobody")
        return self._subscription(context, session, command)

    # --------------------------------------------------------------------------------------------------- rules

    def _subscribe(self, context: Context, session: Session, command: Subscribe) -> Pending:
        rule = context.rule
        assert rule is not None
        if command.channel in session.subscriptions:
            raise Refusal.already_subscribed()  # whatever else is to be said: nobody asks twice
        if rule.subscribe == "nobody":
            raise _denied(f"only the server subscribes to {command.channel!r}", "subscribe", "nobody")
        if command.token:
            return self._subscription(context, session, command)  # which is for this very channel, whatever `caps` say
        if session.caps is not None:
            _capable(session.caps, "subscribe", command.channel)
        elif rule.subscribe == "token":
            raise _denied(f"{command.channel!r} needs a subscription token", "subscribe", "token")
        return None

    def _ask(self, context: Context, session: Session, command: AskRoom) -> Pending:
        """Who may subscribe may ask."""
        assert context.rule is not None
        if context.rule.subscribe == "nobody":
            raise _denied(f"only the server subscribes to {command.channel!r}", "subscribe", "nobody")
        if session.caps is not None:
            _capable(session.caps, "subscribe", command.channel)
        elif context.rule.subscribe == "token":
            raise _denied(f"{command.channel!r} is for clients whose token names it in `caps`", "subscribe", "token")
        return None

    def _allowed(self, session: Session, who: str, deed: Deed, option: str, channel: str) -> None:
        """By the rule, and then by what the client's token says. Raises `Refusal` 103."""
        if who == "nobody":
            raise _denied(f"clients may not {_WORDS[deed]} {channel!r}", option, who)
        if who == "subscriber":
            subscription = session.subscriptions.get(channel)
            # Nor may one whose subscription rests on a token that has expired.
            if subscription is None or 0 < subscription.expires <= self._wall():
                raise _denied(f"only subscribers may {_WORDS[deed]} {channel!r}", option, who)
        if session.caps is not None:
            _capable(session.caps, deed, channel)
        elif who == "token":
            raise _denied(f"only a token whose caps say so may {_WORDS[deed]} {channel!r}", option, who)


def _denied(why: str, option: str, who: str) -> Refusal:
    """With the option of the channel's rule that says so, and what it is."""
    return Refusal.permission_denied(f'{why}: see {option} = "{who}" in its rule')


def _capable(caps: Capabilities, deed: Deed, channel: str) -> None:
    if not caps.allow(deed, channel):
        raise Refusal.permission_denied(f"the token's caps do not allow {deed} in {channel!r}")


async def _later_connection(context: Context, claims: Awaitable[ConnectionClaims]) -> None:
    context.claims = await claims


async def _later_subscription(context: Context, claims: Awaitable[SubscriptionClaims]) -> None:
    context.grant = _grant(await claims)


def _grant(claims: SubscriptionClaims) -> Grant:
    return Grant(claims.info, claims.expires_at or 0.0, claims.issued)


def _only_ones_own(session: Session, channel: str) -> None:
    """Nobody has business in another's personal channel."""
    if channel.startswith("#") and channel != personal_channel(session.user):
        raise Refusal.permission_denied(f"{channel!r} belongs to another user")
