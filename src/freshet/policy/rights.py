"""Who may do what: tokens, and what a channel's rule says of it."""

from collections.abc import Awaitable
from typing import Any

from freshet.errors import Disconnect, Refusal
from freshet.model.commands import (
    Command,
    Connect,
    Publish,
    ReadHistory,
    ReadPresence,
    ReadPresenceStats,
    Refresh,
    RefreshSubscription,
    Subscribe,
)
from freshet.policy.base import Context, Grant, Policy
from freshet.policy.tokens import ConnectionClaims, SubscriptionClaims, Verifier
from freshet.rules.rules import ChannelRule, personal_channel
from freshet.session.session import Session

Pending = Awaitable[None] | None


def why_nobody(tokens: Verifier | None) -> str:
    """What is missing when a client without a valid token is disconnected."""
    if tokens is None:
        return "the server has no secret: set FRESHET_SECRET or [tokens] secret"
    return "a token is required"


class Rights(Policy):
    """The first policy of all. The server itself may do everything.

    tokens: None when there is no secret, so that no token can be right. personal_channels: the option of that name.
    """

    def __init__(self, tokens: Verifier | None, *, personal_channels: bool) -> None:
        self._tokens = tokens
        self._personal_channels = personal_channels
        self._checks: dict[type[Command], Any] = {
            Connect: self._connect,
            Publish: self._publish,
            ReadHistory: self._read,
            ReadPresence: self._read,
            ReadPresenceStats: self._read,
            Refresh: self._connect,
            RefreshSubscription: self._refresh_subscription,
            Subscribe: self._subscribe,
        }

    def check(self, context: Context, command: Command, rule: ChannelRule | None) -> Pending:
        session = context.session
        if session is None:
            return None
        if self._personal_channels and rule is not None:
            _only_ones_own(session, getattr(command, "channel", ""))
        check = self._checks.get(type(command))
        pending: Pending = check(context, session, command) if check is not None else None
        return pending

    # --------------------------------------------------------------------------------------------------- tokens

    def _connect(self, context: Context, session: Session, command: Connect | Refresh) -> Pending:
        """Raises `Refusal` 109 for a token that has expired, so that the client gets a new one; else `Disconnect`."""
        if not command.token:
            return None
        if self._tokens is None:
            raise Disconnect.invalid_token(why_nobody(None))
        claims = self._tokens.connection(command.token)
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
        if command.channel not in session.subscriptions:
            raise Refusal.permission_denied("not subscribed")
        return self._subscription(context, session, command)

    # --------------------------------------------------------------------------------------------------- rules

    def _subscribe(self, context: Context, session: Session, command: Subscribe) -> Pending:
        rule = context.rule
        assert rule is not None
        if command.channel in session.subscriptions:
            raise Refusal.already_subscribed()  # whatever else is to be said: nobody asks twice
        if rule.subscribe == "nobody":
            raise Refusal.permission_denied(f"only the server subscribes to {command.channel!r}")
        if command.token:
            return self._subscription(context, session, command)
        if rule.subscribe == "token":
            raise Refusal.permission_denied(f"{command.channel!r} needs a subscription token")
        return None

    def _publish(self, context: Context, session: Session, command: Publish) -> Pending:
        assert context.rule is not None
        who = context.rule.publish
        if who == "client" or (who == "subscriber" and command.channel in session.subscriptions):
            return None
        raise _refusal(who, command.channel, "publish in")

    def _read(
        self, context: Context, session: Session, command: ReadHistory | ReadPresence | ReadPresenceStats
    ) -> Pending:
        """History and presence."""
        assert context.rule is not None
        who = context.rule.read
        if who == "client" or (who == "subscriber" and command.channel in session.subscriptions):
            return None
        raise _refusal(who, command.channel, "read")


async def _later_connection(context: Context, claims: Awaitable[ConnectionClaims]) -> None:
    context.claims = await claims


async def _later_subscription(context: Context, claims: Awaitable[SubscriptionClaims]) -> None:
    context.grant = _grant(await claims)


def _grant(claims: SubscriptionClaims) -> Grant:
    return Grant(claims.info, claims.expires_at or 0.0)


def _only_ones_own(session: Session, channel: str) -> None:
    """Nobody has business in another's personal channel."""
    if channel.startswith("#") and channel != personal_channel(session.user):
        raise Refusal.permission_denied(f"{channel!r} belongs to another user")


def _refusal(who: str, channel: str, deed: str) -> Refusal:
    if who == "subscriber":
        return Refusal.permission_denied(f"only subscribers may {deed} {channel!r}")
    return Refusal.permission_denied(f"clients may not {deed} {channel!r}")
