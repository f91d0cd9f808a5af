"""What a token says of its client, whoever vouches for that: the claims, their checks, and what a failure becomes."""

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypedDict

import msgspec

from freshet.errors import ConfigError, Disconnect, Refusal
from freshet.model.json_text import Reader, one_line
from freshet.model.log import NOTHING, Claims
from freshet.observe.logs import BoundedLog
from freshet.policy.revocations import Revocations
from freshet.rules.capabilities import Capabilities, Capability
from freshet.runtime.clock import SYSTEM, Clock
from freshet.session.subscription import Issued

REASON = 120  # bytes that fit into a close frame
SHOWN = 60  # characters of what a client sent that a log line may show

log = logging.getLogger("freshet.tokens")


class ConnectionClaims(msgspec.Struct, frozen=True):
    """expires_at: epoch seconds. info: JSON. claims: all of them, as JSON. caps: None: whatever the rules allow."""

    user: str
    expires_at: float | None
    info: msgspec.Raw
    channels: list[str]
    claims: bytes
    caps: Capabilities | None = None


class SubscriptionClaims(msgspec.Struct, frozen=True):
    user: str
    channel: str
    expires_at: float | None
    info: msgspec.Raw
    issued: Issued


class KnownClaims(msgspec.Struct):
    """The claims that mean something here, with their types."""

    sub: str = ""
    exp: float | None = None
    info: msgspec.Raw = NOTHING
    channels: list[str] = []
    channel: str | None = None
    nbf: float = 0
    iat: float | None = None
    jti: str | None = None
    aud: str | list[str] | None = None
    iss: str | None = None
    caps: list[Capability] | None = None


class WrongToken(Exception):
    """A token that is not right. check: which check failed, a word of ours. why: for people, without the token."""

    def __init__(self, check: str, why: str) -> None:
        super().__init__(why)
        self.check = check
        self.why = why


class ExpiredToken(Exception):
    """A token that was right once."""


class UncheckedToken(Exception):
    """Nobody can say at this moment whether a token is right: its client is to try again."""


class TokenRefusals:
    """What becomes of a token that is not right: a line in the log, and the client's answer.

    explain: the client is told why, too, for one's own machine; otherwise that is for the log alone.
    """

    def __init__(self, *, explain: bool = False) -> None:
        self._explain = explain
        self._log = BoundedLog(log)

    def connection(self, error: Exception) -> Refusal | Disconnect:
        """Refusal 109 for an expired token and 100 for one that cannot be checked now, otherwise Disconnect 3500."""
        if isinstance(error, WrongToken):
            return Disconnect.invalid_token(self._told("invalid token", "a connection token", error))
        return self._temporary(error)

    def subscription(self, error: Exception) -> Refusal:
        """Refusal 109 for an expired token, 100 for one that cannot be checked now, otherwise 103."""
        if isinstance(error, WrongToken):
            return Refusal.permission_denied(self._told("invalid subscription token", "a subscription token", error))
        return self._temporary(error)

    def _temporary(self, error: Exception) -> Refusal:
        if isinstance(error, ExpiredToken):
            return Refusal.token_expired()
        self._log.warning("unchecked", "a token could not be checked, its client is to try again: %s", error)
        return Refusal.internal("the token cannot be checked now")

    def _told(self, message: str, what: str, error: WrongToken) -> str:
        self._log.warning(f"{what}: {error.check}", "%s was refused by its `%s`: %s", what, error.check, error.why)
        told = f"{message}: {error.why}" if self._explain else message
        return told.encode()[:REASON].decode(errors="ignore")


_read = Reader(KnownClaims)


class ClaimChecks:
    """Looks at what claims say. The arguments are the options of these names, under `[tokens]`."""

    def __init__(
        self,
        *,
        audience: str | None = None,
        issuer: str | None = None,
        leeway: float = 0,
        require_expiry: bool = False,
        max_lifetime: float = 0,
        anonymous: bool = False,
        revocations: Revocations | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.audience = audience
        self.issuer = issuer
        self._leeway = leeway
        self._require_expiry = require_expiry or max_lifetime > 0
        self._max_lifetime = max_lifetime
        self._anonymous = anonymous
        self._revocations = revocations if revocations is not None else Revocations(clock.wall)
        self._wall = clock.wall

    def known(self, claims: bytes) -> KnownClaims:
        """What claims say that somebody vouches for. Raises `WrongToken` and `ExpiredToken`."""
        try:
            known = _read(claims)
        except msgspec.ValidationError as error:  # which says where, and which types, without the value
            raise WrongToken("claims", str(error)) from None
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise WrongToken("claims", "they are not JSON") from None
        now, leeway = self._wall(), self._leeway
        if known.nbf > now + leeway:
            raise WrongToken("nbf", f"it is valid in {known.nbf - now:.0f} s: are the clocks right?")
        if self.audience is not None:
            audiences = known.aud if isinstance(known.aud, list) else [known.aud]
            if self.audience not in audiences:
                raise WrongToken("aud", f"it is {str(known.aud)[:SHOWN]!r}, expected {self.audience!r}")
        if self.issuer is not None and known.iss != self.issuer:
            raise WrongToken("iss", f"it is {str(known.iss)[:SHOWN]!r}, expected {self.issuer!r}")
        if known.exp is None and self._require_expiry:
            raise WrongToken("exp", "it has no exp: see tokens.require_expiry and tokens.max_lifetime")
        if self._max_lifetime and known.exp is not None and known.exp > now + self._max_lifetime + leeway:
            raise WrongToken("exp", f"it ends in more than {self._max_lifetime:g} s: see tokens.max_lifetime")
        if known.exp is not None and known.exp <= now - leeway:
            raise ExpiredToken
        if self._revocations.revoked(known.sub, known.jti, known.iat):
            raise WrongToken("revocation", "it has been revoked")
        return known

    def connection(self, claims: bytes) -> ConnectionClaims:
        """The same, of a connection token."""
        known = self.known(claims)
        if known.channel is not None:
            raise WrongToken("channel", "a subscription token does not connect")
        if not known.sub and not self._anonymous:
            raise WrongToken("sub", "the token names no user")
        try:
            caps = Capabilities(known.caps) if known.caps is not None else None
        except ConfigError as error:
            raise WrongToken("caps", error.message) from None
        return ConnectionClaims(known.sub, self.until(known), given(known.info), known.channels, claims, caps)

    def until(self, known: KnownClaims) -> float | None:
        """What is forgiven when it is checked is forgiven as long as it is used."""
        return known.exp + self._leeway if known.exp is not None else None


def given(info: msgspec.Raw) -> msgspec.Raw:
    """A claim that may be null, on one line."""
    text = bytes(info).strip()
    return NOTHING if text in (b"", b"null") else msgspec.Raw(one_line(text))


class TokenOptions(TypedDict, total=False):
    """What `all_claims` takes, for whoever only passes it on."""

    expires_in: float | None
    info: Any
    channels: Sequence[str]
    channel: str | None
    claims: Mapping[str, Any]


def all_claims(
    user: str,
    now: float,
    *,
    expires_in: float | None = None,
    info: Any = None,
    channels: Sequence[str] = (),
    channel: str | None = None,
    claims: Mapping[str, Any] = MappingProxyType({}),
) -> Claims:
    """The claims of a token of ours. now: epoch seconds.

    expires_in: seconds; None: it does not expire. info: what msgspec makes JSON of. channels: those to which the server
    subscribes the client. channel: makes it a subscription token for this one. claims: more of them.

    Raises TypeError for a name that is no text, UnicodeEncodeError for one that UTF-8 cannot write.
    """
    for name in (user, channel or "", *channels):
        if not isinstance(name, str):
            raise TypeError(f"a user and a channel are text, got {name!r}: expected {str(name)!r}")
        name.encode()  # half of a character is none
    if not (expires_in is None or isinstance(expires_in, int | float)):
        raise TypeError(f"expires_in: expected seconds, or None for a token that does not expire, got {expires_in!r}")
    found: Claims = {"iat": round(now, 3), **claims, "sub": user}
    if expires_in is not None:
        found["exp"] = int(now + expires_in)
    for name, value in {"info": info, "channels": list(channels) or None, "channel": channel}.items():
        if value is not None:
            found[name] = value
    return found
