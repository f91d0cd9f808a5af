"""Clients' tokens: JSON Web Tokens, signed with a secret or by who has the private key.

A connection token says who a client is (`sub`), until when (`exp`), what others see of it (`info`), to which channels
the server subscribes it (`channels`), and what it may do (`caps`). A subscription token allows one user one `channel`.
Neither passes for the other.
"""

import os
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol, TypeVar, Unpack

import jwt
import msgspec

from freshet.config import Tokens
from freshet.errors import ConfigError
from freshet.model.json_text import encode
from freshet.policy.claims import (
    SHOWN,
    ClaimChecks,
    ConnectionClaims,
    ExpiredToken,
    SubscriptionClaims,
    TokenOptions,
    TokenRefusals,
    UncheckedToken,
    WrongToken,
    all_claims,
    given,
)
from freshet.policy.keys import (
    SECRET_BYTES,
    SIGNATURES,
    RemoteKeys,
    VerificationKey,
    configured_keys,
    fitting,
    secret_key,
)
from freshet.policy.known_headers import KnownHeaders
from freshet.policy.revocations import Revocations
from freshet.runtime.clock import SYSTEM, Clock
from freshet.session.subscription import Issued

KIB = 1024
LONGEST = 16 * KIB  # bytes of a token that are looked at, unless a verifier is told otherwise
KEYS = 4  # keys that are tried for a token that does not say which it is signed with

Keys = Sequence[VerificationKey]


def unsigned(what: str) -> ConfigError:
    """What is asked for cannot be signed."""
    return ConfigError("tokens.secret", f"{what} needs one: set FRESHET_SECRET or [tokens] secret")


C = TypeVar("C")


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str = ""
    typ: str = ""


_decode_header = msgspec.json.Decoder(_Header).decode


class Verifier(Protocol):
    """What checks clients' tokens. One that has to wait, for a key that it fetches, answers with an awaitable."""

    def connection(self, token: str) -> ConnectionClaims | Awaitable[ConnectionClaims]:
        """Raises, now or when it is awaited, as `TokenVerifier.connection`."""

    def subscription(self, token: str, channel: str, user: str) -> SubscriptionClaims | Awaitable[SubscriptionClaims]:
        """Raises, now or when it is awaited, as `TokenVerifier.subscription`."""


class TokenVerifier:
    """Checks tokens against the keys that there are.

    secret: one key, which also signs (`issue`). keys, remote: more of them. algorithms: those accepted; None: all that
    fit a key. type: what `typ` has to be. checks: of what a token says. weak: the secret may be short.
    longest: bytes of a token.

    Raises ConfigError for a secret or an algorithm that cannot be.
    """

    def __init__(
        self,
        secret: str | None,
        algorithms: Sequence[str] | None = None,
        *,
        keys: Keys = (),
        remote: RemoteKeys | None = None,
        type: str | None = None,  # noqa: A002 - the name in the header
        checks: ClaimChecks | None = None,
        refusals: TokenRefusals | None = None,
        weak: bool = False,
        longest: int = LONGEST,
        clock: Clock = SYSTEM,
    ) -> None:
        given = secret is not None or not (keys or remote)
        self._keys = [*([secret_key(secret or "", algorithms, weak=weak)] if given else []), *keys]
        self._signing = next((key for key in self._keys if isinstance(key.material, bytes)), None)
        self._algorithms = algorithms
        self._remote = remote
        self._type = type
        self._checks = checks or ClaimChecks(clock=clock)
        self._refusals = refusals or TokenRefusals()
        self._longest = longest
        self._clock = clock
        self._known = KnownHeaders()

    @classmethod
    def from_config(
        cls,
        config: Tokens,
        secret: str | None,
        clock: Clock = SYSTEM,
        *,
        environment: Mapping[str, str] = os.environ,
        remote: RemoteKeys | None = None,
        revocations: Revocations | None = None,
        refusals: TokenRefusals | None = None,
        weak: bool = False,
        longest: int = LONGEST,
    ) -> "TokenVerifier":
        checks = ClaimChecks(
            audience=config.audience,
            issuer=config.issuer,
            leeway=config.leeway,
            require_expiry=config.require_expiry,
            max_lifetime=config.max_lifetime,
            anonymous=config.anonymous,
            revocations=revocations,
            clock=clock,
        )
        return cls(
            secret,
            config.algorithms,
            keys=configured_keys(config, environment, weak=weak),
            remote=remote,
            type=config.type,
            checks=checks,
            refusals=refusals,
            weak=weak,
            longest=longest,
            clock=clock,
        )

    @property
    def signing_secret(self) -> bytes | None:
        """The first secret of all keys; None: there are public ones alone."""
        return self._signing.material if self._signing is not None else None

    # ----------------------------------------------------------------------------------------------------- two kinds

    def connection(self, token: str) -> ConnectionClaims | Awaitable[ConnectionClaims]:
        """Raises `Refusal` 109 for an expired token, 100 when it cannot be checked now; otherwise `Disconnect` 3500."""
        try:
            if (claims := self._known_claims(token)) is not None:
                return self._checks.connection(claims)
            keys = self._keys_for(token)
            if isinstance(keys, Awaitable):
                return self._later(self._connection_of(token, keys), self._refusals.connection)
            return self._checks.connection(self._signed(token, keys))
        except (WrongToken, ExpiredToken, UncheckedToken) as error:
            raise self._refusals.connection(error) from None

    def subscription(self, token: str, channel: str, user: str) -> SubscriptionClaims | Awaitable[SubscriptionClaims]:
        """Raises `Refusal` 109 for an expired token, 100 when it cannot be checked now, 103 for any other."""
        try:
            if (claims := self._known_claims(token)) is not None:
                return self._allowed(claims, channel, user)
            keys = self._keys_for(token)
            if isinstance(keys, Awaitable):
                return self._later(self._subscription_of(token, channel, user, keys), self._refusals.subscription)
            return self._allowed(self._signed(token, keys), channel, user)
        except (WrongToken, ExpiredToken, UncheckedToken) as error:
            raise self._refusals.subscription(error) from None

    @staticmethod
    async def _later(checking: Awaitable[C], refusal: Callable[[Exception], Exception]) -> C:
        try:
            return await checking
        except (WrongToken, ExpiredToken, UncheckedToken) as error:
            raise refusal(error) from None

    async def _connection_of(self, token: str, keys: Awaitable[Keys]) -> ConnectionClaims:
        return self._checks.connection(self._signed(token, await keys))

    async def _subscription_of(self, token: str, channel: str, user: str, keys: Awaitable[Keys]) -> SubscriptionClaims:
        return self._allowed(self._signed(token, await keys), channel, user)

    def _allowed(self, claims: bytes, channel: str, user: str) -> SubscriptionClaims:
        """What a subscription token says, if it is for that."""
        known = self._checks.known(claims)
        if known.channel != channel or known.sub != user:
            raise WrongToken("channel" if known.channel != channel else "sub", "it is for another channel or user")
        issued = Issued(known.jti, known.iat)
        return SubscriptionClaims(user, channel, self._checks.until(known), given(known.info), issued)

    def _known_claims(self, token: str) -> bytes | None:
        """The claims of a token that is signed as others before it were; None: it has to be looked at in full."""
        return self._known.claims(token) if len(token) <= self._longest else None

    def _signed(self, token: str, keys: Keys) -> bytes:
        """The claims of a token that one of the keys has signed. Raises `WrongToken`."""
        key, claims = signed(token, keys)
        self._known.remember(token, key, _header_of(token).alg)
        return claims

    def _keys_for(self, token: str) -> Keys | Awaitable[Keys]:
        """The keys that may have signed it. Raises `WrongToken` when there is none."""
        if len(token) > self._longest:
            raise WrongToken("size", f"it has more than {self._longest} bytes: see limits.token_size")
        header = _header_of(token)
        if self._type is not None and _media_type(header.typ) != _media_type(self._type):
            raise WrongToken("typ", f"it is {header.typ[:SHOWN]!r}, expected {self._type!r}")
        keys = fitting(self._keys, header.kid, header.alg)
        if self._remote is None or header.alg in SECRET_BYTES or any(key.kid and key.kid == header.kid for key in keys):
            return _few(keys, header)
        found = self._remote.find(header.kid, header.alg)
        if isinstance(found, Awaitable):
            return _all_of(keys, found, header)
        return _few([*keys, *found], header)

    # -------------------------------------------------------------------------------------------------------- making

    def issue(self, user: str, **options: Unpack[TokenOptions]) -> str:
        """A token that this verifier takes; see the function `issue`. Raises ConfigError when there is no secret."""
        if self._signing is None:
            raise unsigned("a token")
        own = {"aud": self._checks.audience, "iss": self._checks.issuer}
        allowed = [name for name in self._algorithms or SECRET_BYTES if name in self._signing.algorithms]
        claims = {name: value for name, value in own.items() if value is not None} | dict(options.get("claims", {}))
        told: TokenOptions = {**options, "claims": claims}
        return issue(
            self._signing.material,
            user,
            algorithm=allowed[0],
            type=self._type,
            kid=self._signing.kid,
            clock=self._clock,
            **told,
        )


def _header_of(token: str) -> _Header:
    return _read_header(token.partition(".")[0])


@lru_cache(64)  # all tokens of an issuer have the same
def _read_header(head: str) -> _Header:
    try:
        return _decode_header(urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise WrongToken(
            "form", "it is no JWT: three parts in base64url, of which the first is a header in JSON"
        ) from None


def _media_type(name: str) -> str:
    """RFC 7515, 4.1.9: a recipient "MUST treat it as if "application/" were prepended"; media types ignore case."""
    return name.lower().removeprefix("application/")


def _few(keys: Keys, header: _Header) -> Keys:
    """So few keys that a wrong token costs little. Raises `WrongToken` when there is none."""
    if not keys:
        named = f"{header.alg[:SHOWN]!r} and the id (kid) {header.kid[:SHOWN]!r}"
        raise WrongToken("alg", f"no key here fits the algorithm {named}")
    if len(keys) > KEYS and not header.kid:
        raise WrongToken("kid", f"it names no key (kid), and more than {KEYS} may have signed it")
    return keys[:KEYS]


async def _all_of(keys: Keys, found: Awaitable[Keys], header: _Header) -> Keys:
    return _few([*keys, *await found], header)


def signed(token: str, keys: Keys) -> tuple[VerificationKey, bytes]:
    """The key that has signed a token, and its claims as JSON. Raises `WrongToken`."""
    why = WrongToken("signature", "it is not signed with a key that is known here")
    algorithm = _header_of(token).alg
    for key in keys:
        try:
            return key, SIGNATURES.decode(token, key.material, [algorithm])
        except jwt.InvalidSignatureError:
            continue
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            quoted = ascii(str(error)[:SHOWN]) if isinstance(error, jwt.InvalidTokenError) else type(error).__name__
            why = WrongToken("form", f"it is no JWT that is signed: {quoted}")
    raise why


def issue(
    secret: str | bytes,
    user: str,
    *,
    algorithm: str = "HS256",
    type: str | None = None,  # noqa: A002 - the name in the header
    kid: str = "",
    clock: Clock = SYSTEM,
    **options: Unpack[TokenOptions],
) -> str:
    """Make a token; a back end in another language makes the same with any JWT library.

    options: see `all_claims`. type: for the header `typ`, instead of `JWT`. kid: the id of the secret.

    Raises UnicodeEncodeError for a name that UTF-8 cannot write.
    """
    header = {name: value for name, value in {"typ": type, "kid": kid}.items() if value}
    return SIGNATURES.encode(encode(all_claims(user, clock.wall(), **options)), secret, algorithm, header)
