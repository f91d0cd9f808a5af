"""Clients' tokens: JSON Web Tokens signed with a shared secret.

A connection token says who a client is (`sub`), until when (`exp`), what others see of it (`info`), and to which
channels the server subscribes it (`channels`). A subscription token allows one user one `channel`. Neither passes for
the other.
"""

import time
import warnings
from collections.abc import Sequence
from typing import Any

import jwt
import msgspec

from freshet.config import Tokens
from freshet.errors import ConfigError, Disconnect, Refusal
from freshet.model import Claims

KIB = 1024
LONGEST = 16 * KIB  # bytes of a token that are looked at

# A secret's length is told once, when the server starts, instead of with every token.
warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)


class ConnectionClaims(msgspec.Struct, frozen=True):
    """expires_at: epoch seconds. info: JSON. claims: all of them, as JSON."""

    user: str
    expires_at: float | None
    info: msgspec.Raw
    channels: list[str]
    claims: bytes


class SubscriptionClaims(msgspec.Struct, frozen=True):
    user: str
    channel: str
    expires_at: float | None
    info: msgspec.Raw


class _Known(msgspec.Struct):
    """The claims that mean something here, with their types."""

    sub: str = ""
    exp: float | None = None
    info: Any = None
    channels: list[str] = []
    channel: str | None = None
    nbf: float = 0
    aud: str | list[str] | None = None
    iss: str | None = None


_decode = msgspec.json.Decoder(_Known).decode


class _Wrong(Exception):
    """A token that is not right, for whatever reason."""


class _Expired(Exception):
    """A token that was right once."""


class TokenVerifier:
    """algorithms: those accepted, of HS256, HS384, HS512. leeway: clock skew that is forgiven, seconds."""

    def __init__(
        self,
        secret: str,
        algorithms: Sequence[str] = ("HS256", "HS384", "HS512"),
        *,
        audience: str | None = None,
        issuer: str | None = None,
        leeway: float = 0,
    ) -> None:
        if not secret:
            raise ConfigError("tokens.secret", "expected a text that is not empty")
        self._key = secret.encode()
        self._algorithms = list(algorithms)
        self._audience = audience
        self._issuer = issuer
        self._leeway = leeway
        self._jws = jwt.PyJWS(algorithms=self._algorithms, options={"enforce_minimum_key_length": False})

    @classmethod
    def from_config(cls, config: Tokens, secret: str) -> "TokenVerifier":
        return cls(secret, config.algorithms, audience=config.audience, issuer=config.issuer, leeway=config.leeway)

    def connection(self, token: str) -> ConnectionClaims:
        """Raises `Refusal` 109 for an expired token, `Disconnect` 3500 for any other that is not right."""
        try:
            claims, known = self._verify(token)
        except _Expired:
            raise Refusal.token_expired() from None
        except _Wrong:
            raise Disconnect.invalid_token() from None
        if known.channel is not None:
            raise Disconnect.invalid_token("a subscription token does not connect")
        return ConnectionClaims(known.sub, known.exp, _raw(known.info), known.channels, claims)

    def subscription(self, token: str, channel: str, user: str) -> SubscriptionClaims:
        """Raises `Refusal` 109 for an expired token, 103 for any other that is not right."""
        try:
            _, known = self._verify(token)
        except _Expired:
            raise Refusal.token_expired() from None
        except _Wrong:
            raise Refusal.permission_denied("invalid subscription token") from None
        if known.channel != channel or known.sub != user:
            raise Refusal.permission_denied("the subscription token is for another user or channel")
        return SubscriptionClaims(user, channel, known.exp, _raw(known.info))

    def _verify(self, token: str) -> tuple[bytes, _Known]:
        if len(token) > LONGEST:
            raise _Wrong
        try:
            claims: bytes = self._jws.decode(token, self._key, self._algorithms)
            known = _decode(claims)
        except (jwt.PyJWTError, msgspec.MsgspecError, ValueError, RecursionError):
            raise _Wrong from None
        now = time.time()
        if known.nbf > now + self._leeway:
            raise _Wrong
        audiences = known.aud if isinstance(known.aud, list) else [known.aud]
        if self._audience is not None and self._audience not in audiences:
            raise _Wrong
        if self._issuer is not None and known.iss != self._issuer:
            raise _Wrong
        if known.exp is not None and known.exp <= now - self._leeway:
            raise _Expired
        return claims, known


def _raw(info: Any) -> msgspec.Raw:
    return msgspec.Raw() if info is None else msgspec.Raw(msgspec.json.encode(info))


def issue(
    secret: str,
    user: str,
    *,
    expires_in: float | None = None,
    info: Any = None,
    channels: Sequence[str] = (),
    channel: str | None = None,
    algorithm: str = "HS256",
) -> str:
    """Make a token: for one's own tools and tests; a backend makes them with any JWT library.

    expires_in: seconds. channel: makes it a subscription token.
    """
    claims: Claims = {"sub": user}
    if expires_in is not None:
        claims["exp"] = int(time.time() + expires_in)
    for name, value in {"info": info, "channels": list(channels) or None, "channel": channel}.items():
        if value is not None:
            claims[name] = value
    return jwt.encode(claims, secret, algorithm)
