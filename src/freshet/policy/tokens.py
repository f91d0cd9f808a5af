"""Clients' tokens: JSON Web Tokens signed with a shared secret.

A connection token says who a client is (`sub`), until when (`exp`), what others see of it (`info`), and to which
channels the server subscribes it (`channels`). A subscription token allows one user one `channel`. Neither passes for
the other.
"""

import logging
import secrets
from collections.abc import Awaitable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm

from freshet.config import Tokens
from freshet.errors import ConfigError, Disconnect, Refusal
from freshet.model.json_text import Reader, encode, one_line
from freshet.model.log import Claims
from freshet.observe.logs import BoundedLog
from freshet.runtime.clock import SYSTEM, Clock

KIB = 1024
LONGEST = 16 * KIB  # bytes of a token that are looked at, unless a verifier is told otherwise

# The hash of each algorithm, and the bytes of a secret that RFC 7518 section 3.2 asks for.
HASHES = {
    "HS256": (HMACAlgorithm.SHA256, 32),
    "HS384": (HMACAlgorithm.SHA384, 48),
    "HS512": (HMACAlgorithm.SHA512, 64),
}

log = logging.getLogger("freshet")


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
    info: msgspec.Raw = msgspec.Raw()
    channels: list[str] = []
    channel: str | None = None
    nbf: float = 0
    aud: str | list[str] | None = None
    iss: str | None = None


_read = Reader(_Known)


class _Wrong(Exception):
    """A token that is not right: which check it failed, without anything of the token."""


class _Expired(Exception):
    """A token that was right once."""


class _Hmac(HMACAlgorithm):
    """For one key, which was looked at when it was set instead of with every token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key.encode() if isinstance(key, str) else key

    def check_key_length(self, key: bytes) -> str | None:
        return None


def _signatures(algorithms: Sequence[str]) -> jwt.PyJWS:
    if not algorithms:
        raise ConfigError("tokens.algorithms", f"expected one or more of {', '.join(HASHES)}")
    jws = jwt.PyJWS(algorithms=[])
    for name in algorithms:
        if name not in HASHES:
            raise ConfigError("tokens.algorithms", f"no algorithm {name!r}. Allowed: {', '.join(HASHES)}")
        if name not in jws.get_algorithms():
            jws.register_algorithm(name, _Hmac(HASHES[name][0]))
    return jws


class Verifier(Protocol):
    """What checks clients' tokens. One that has to wait, for a key that it fetches, answers with an awaitable."""

    def connection(self, token: str) -> ConnectionClaims | Awaitable[ConnectionClaims]:
        """Raises, now or when it is awaited, as `TokenVerifier.connection`."""

    def subscription(self, token: str, channel: str, user: str) -> SubscriptionClaims | Awaitable[SubscriptionClaims]:
        """Raises, now or when it is awaited, as `TokenVerifier.subscription`."""


class TokenVerifier:
    """Checks tokens against one secret.

    algorithms: those accepted, of HS256, HS384, HS512. leeway: clock skew that is forgiven, seconds. anonymous: a
    connection token may leave out `sub`. longest: bytes of a token.

    Raises ConfigError for a secret or an algorithm that cannot be.
    """

    def __init__(
        self,
        secret: str,
        algorithms: Sequence[str] = ("HS256", "HS384", "HS512"),
        *,
        audience: str | None = None,
        issuer: str | None = None,
        leeway: float = 0,
        anonymous: bool = False,
        longest: int = LONGEST,
        clock: Clock = SYSTEM,
    ) -> None:
        if not secret:
            raise ConfigError("tokens.secret", "expected a text that is not empty")
        try:
            self._key = HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
        except (jwt.InvalidKeyError, UnicodeEncodeError) as error:
            raise ConfigError("tokens.secret", f"expected a random text: {_why(error)}") from None
        self._algorithms = list(algorithms)
        self._audience = audience
        self._issuer = issuer
        self._leeway = leeway
        self._anonymous = anonymous
        self._longest = longest
        self._clock = clock
        self._bounded_log = BoundedLog(log)
        self._jws = _signatures(self._algorithms)
        self.is_made_up = False
        least = min(HASHES[name][1] for name in self._algorithms)
        if len(self._key) < least:
            log.warning(
                "the secret for tokens is too short: RFC 7518 asks for %d random bytes, set a longer FRESHET_SECRET",
                least,
            )
        if self._key != self._key.strip():  # it counts: who signs the tokens may have it from the same place
            log.warning(
                "the secret for tokens begins or ends with white space: tokens that are signed without it are refused, "
                "look at where FRESHET_SECRET comes from"
            )

    @classmethod
    def from_config(
        cls, config: Tokens, secret: str, clock: Clock = SYSTEM, *, longest: int = LONGEST
    ) -> "TokenVerifier":
        return cls(
            secret,
            config.algorithms,
            audience=config.audience,
            issuer=config.issuer,
            leeway=config.leeway,
            anonymous=config.anonymous,
            longest=longest,
            clock=clock,
        )

    @classmethod
    def made_up(cls, config: Tokens, clock: Clock = SYSTEM) -> "TokenVerifier":
        """Where no secret is set: with one that nobody else has, so that it knows the tokens that it issued itself."""
        made = cls.from_config(config, secrets.token_hex(64), clock)
        made.is_made_up = True
        return made

    def connection(self, token: str) -> ConnectionClaims:
        """Raises `Refusal` 109 for an expired token, `Disconnect` 3500 for any other that is not right."""
        try:
            claims, known = self._verify(token)
        except _Expired:
            raise Refusal.token_expired() from None
        except _Wrong as why:
            self._note("connection", str(why))
            raise Disconnect.invalid_token() from None
        if known.channel is not None:
            self._note("connection", "it is a subscription token: its `channel` is set")
            raise Disconnect.invalid_token("a subscription token does not connect")
        if not known.sub and not self._anonymous:
            self._note("connection", "it names no user in `sub`, and tokens.anonymous is false")
            raise Disconnect.invalid_token("the token names no user")
        return ConnectionClaims(known.sub, known.exp, _given(known.info), known.channels, claims)

    def subscription(self, token: str, channel: str, user: str) -> SubscriptionClaims:
        """Raises `Refusal` 109 for an expired token, 103 for any other that is not right."""
        try:
            _, known = self._verify(token)
        except _Expired:
            raise Refusal.token_expired() from None
        except _Wrong as why:
            self._note("subscription", str(why))
            raise Refusal.permission_denied("invalid subscription token") from None
        if known.channel != channel or known.sub != user:
            claim = "channel" if known.channel != channel else "sub"
            self._note("subscription", f"its `{claim}` is not that of the client that subscribes")
            raise Refusal.permission_denied("the subscription token is for another user or channel")
        return SubscriptionClaims(user, channel, known.exp, _given(known.info))

    def issue(
        self,
        user: str,
        *,
        expires_in: float | None = None,
        info: Any = None,
        channels: Sequence[str] = (),
        channel: str | None = None,
        claims: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        """A token that this verifier takes; see the function `issue`."""
        own = {"aud": self._audience, "iss": self._issuer}
        return issue(
            self._key,
            user,
            expires_in=expires_in,
            info=info,
            channels=channels,
            channel=channel,
            claims={name: value for name, value in own.items() if value is not None} | dict(claims),
            algorithm=self._algorithms[0],
            clock=self._clock,
        )

    def _note(self, kind: str, why: str) -> None:
        self._bounded_log.warning(f"{kind}: {why}", "a %s token was refused: %s", kind, why)

    def _verify(self, token: str) -> tuple[bytes, _Known]:
        if len(token) > self._longest:
            raise _Wrong(f"it is longer than {self._longest} bytes, see limits.token_size")
        try:
            claims: bytes = self._jws.decode(token, self._key, self._algorithms)
        except jwt.InvalidAlgorithmError:
            raise _Wrong(f"its `alg` is none of tokens.algorithms, {', '.join(self._algorithms)}") from None
        except jwt.InvalidSignatureError:
            raise _Wrong("its signature does not match: it was signed with another secret") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise _Wrong("it is no JWT: three parts in base64url, of which the first is a header in JSON") from None
        try:
            known = _read(claims)
        except msgspec.ValidationError as error:  # which says where, and which types, without the value
            raise _Wrong(f"its claims: {error}") from None
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise _Wrong("its claims are not JSON") from None
        now = self._clock.wall()
        if known.nbf > now + self._leeway:
            raise _Wrong("it is not valid yet by `nbf`, see tokens.leeway")
        audiences = known.aud if isinstance(known.aud, list) else [known.aud]
        if self._audience is not None and self._audience not in audiences:
            raise _Wrong("its `aud` is not tokens.audience")
        if self._issuer is not None and known.iss != self._issuer:
            raise _Wrong("its `iss` is not tokens.issuer")
        if known.exp is not None and known.exp <= now - self._leeway:
            raise _Expired
        return claims, known


def _why(error: Exception) -> str:
    """Without the secret, which an error of Unicode quotes."""
    return str(error) if isinstance(error, jwt.InvalidKeyError) else "this one is not UTF-8"


def _given(info: msgspec.Raw) -> msgspec.Raw:
    """A claim that may be null, on one line."""
    text = bytes(info)
    return msgspec.Raw() if text == b"null" else msgspec.Raw(one_line(text))


def issue(
    secret: str | bytes,
    user: str,
    *,
    expires_in: float | None = None,
    info: Any = None,
    channels: Sequence[str] = (),
    channel: str | None = None,
    claims: Mapping[str, Any] = MappingProxyType({}),
    algorithm: str = "HS256",
    clock: Clock = SYSTEM,
) -> str:
    """Make a token; a back end in another language makes the same with any JWT library.

    expires_in: seconds. info: what msgspec makes JSON of. channel: makes it a subscription token. claims: more of them.

    Raises UnicodeEncodeError for a name that UTF-8 cannot write.
    """
    for name in (user, channel or "", *channels):
        name.encode()  # a name is text, half of a character is none
    all_claims: Claims = {**claims, "sub": user}
    if expires_in is not None:
        all_claims["exp"] = int(clock.wall() + expires_in)
    for name, value in {"info": info, "channels": list(channels) or None, "channel": channel}.items():
        if value is not None:
            all_claims[name] = value
    payload = encode(all_claims)
    return _signatures([algorithm]).encode(payload, secret, algorithm)
