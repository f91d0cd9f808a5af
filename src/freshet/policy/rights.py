"""Who may do what: the checks that run before a command does."""

import msgspec

from freshet.config import Config, Limits
from freshet.errors import Disconnect, Refusal
from freshet.policy.tokens import ConnectionClaims, TokenVerifier
from freshet.rules.rules import ChannelRule, ChannelRules
from freshet.session.session import Session


def identify(token: str, tokens: TokenVerifier | None) -> ConnectionClaims | None:
    """Who a connection's token says it is; None when there is no token.

    Raises `Refusal` 109 for one that has expired, so that the client gets a new one, `Disconnect` 3500 for any other
    that is not right.
    """
    if not token:
        return None
    if tokens is None:
        raise Disconnect.invalid_token(why_no_token(tokens))
    return tokens.connection(token)


def why_no_token(tokens: TokenVerifier | None) -> str:
    """What is missing when a client without a valid token is sent away."""
    if tokens is None:
        return "the server has no secret: set FRESHET_SECRET or [tokens] secret"
    return "a token is required"


def rule_of(rules: ChannelRules, channel: str, limits: Limits) -> tuple[ChannelRule, dict[str, str]]:
    """The first rule that matches, and the parameters of its pattern.

    Raises `Refusal` 102 when there is none, 107 for what cannot be a channel's name.
    """
    if not channel:
        raise Refusal.bad_request("channel: expected a name")
    if len(channel) > limits.channel_length or len(channel.encode(errors="replace")) > limits.channel_length:
        raise Refusal.bad_request(f"channel: at most {limits.channel_length} bytes")
    return rules.find(channel)


def personal_channel(user: str) -> str:
    """The channel that belongs to one user alone."""
    return f"#{user}"


def rule_for(rules: ChannelRules, config: Config, session: Session, channel: str) -> tuple[ChannelRule, dict[str, str]]:
    """As `rule_of`, for what a client asks itself: nobody has business in another's personal channel."""
    if config.personal_channels and channel.startswith("#") and channel != personal_channel(session.user):
        raise Refusal.permission_denied(f"{channel!r} belongs to another user")
    return rule_of(rules, channel, config.limits)


def may_subscribe(
    rule: ChannelRule, session: Session, channel: str, token: str, tokens: TokenVerifier | None
) -> tuple[msgspec.Raw, float]:
    """The info that a subscription token gives, and when it expires (epoch seconds, or 0).

    Raises `Refusal` 103, or 109 for a token that has expired.
    """
    if token:
        if tokens is None:
            raise Refusal.permission_denied("the server has no secret to check the token with")
        claims = tokens.subscription(token, channel, session.user)
        return claims.info, claims.expires_at or 0.0
    if rule.subscribe == "token":
        raise Refusal.permission_denied(f"{channel!r} needs a subscription token")
    if rule.subscribe == "nobody":
        raise Refusal.permission_denied(f"only the server subscribes to {channel!r}")
    return msgspec.Raw(), 0.0


def may_publish(rule: ChannelRule, session: Session, channel: str) -> None:
    """Raises `Refusal` 103."""
    _allowed(rule.publish, session, channel, "publish in")


def may_read(rule: ChannelRule, session: Session, channel: str) -> None:
    """History and presence. Raises `Refusal` 103."""
    _allowed(rule.read, session, channel, "read")


def _allowed(who: str, session: Session, channel: str, deed: str) -> None:
    if who == "client" or (who == "subscriber" and channel in session.subscriptions):
        return
    if who == "subscriber":
        raise Refusal.permission_denied(f"only subscribers may {deed} {channel!r}")
    raise Refusal.permission_denied(f"clients may not {deed} {channel!r}")
