"""Who a client is, by what it shows: a signed token, a one-time ticket, or what only the application can check."""

import secrets
from collections.abc import Awaitable, Mapping
from types import MappingProxyType
from typing import Any, Self, Unpack

from freshet.config import Tokens
from freshet.engines.base import Engine
from freshet.errors import Disconnect, Refusal
from freshet.model.frame import Handshake
from freshet.policy.claims import (
    ClaimChecks,
    ConnectionClaims,
    SubscriptionClaims,
    TokenOptions,
    TokenRefusals,
    all_claims,
)
from freshet.policy.jwks import PublishedKeys
from freshet.policy.revocations import Revocations
from freshet.policy.session_tokens import Lookup, SessionTokens
from freshet.policy.tickets import PREFIX, Tickets
from freshet.policy.tokens import LONGEST, TokenVerifier, Verifier, unsigned
from freshet.runtime.clock import SYSTEM, Clock


def why_nobody(tokens: "Verifier | None") -> str:
    """What is missing when a client without a valid token is disconnected."""
    if tokens is None or (isinstance(tokens, Authentication) and not tokens.verifies):
        return "the server has no secret: set FRESHET_SECRET or [tokens] secret"
    return "a token is required"


class Authentication:
    """All that checks what a client shows. Implements `tokens.Verifier`.

    tokens: None when there is no key, so that no signed token can be right. cookie: the one that holds a token.
    made_up: nobody else has the secret.
    """

    def __init__(
        self,
        tokens: TokenVerifier | None,
        engine: Engine,
        *,
        cookie: str | None = None,
        published: PublishedKeys | None = None,
        revocations: Revocations | None = None,
        refusals: TokenRefusals | None = None,
        checks: ClaimChecks | None = None,
        made_up: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        self.cookie = cookie
        self.revocations = revocations if revocations is not None else Revocations(clock.wall)
        self._tokens = tokens
        self._published = published
        self._refusals = refusals or TokenRefusals()
        self._checks = checks or ClaimChecks(revocations=self.revocations, clock=clock)
        self._made_up = made_up
        self._clock = clock
        self._sessions: SessionTokens | None = None
        secret = tokens.signing_secret if tokens is not None else None
        self._tickets = Tickets(secret, engine, self._checks, self._refusals, clock) if secret else None

    @classmethod
    def from_config(
        cls,
        config: Tokens,
        secret: str | None,
        engine: Engine,
        clock: Clock = SYSTEM,
        *,
        environment: Mapping[str, str],
        longest: int = LONGEST,
        dev: bool = False,
    ) -> Self:
        """dev: a secret may be short, or made up, and clients are told why a token is refused. Raises ConfigError."""
        revocations, refusals = Revocations(clock.wall), TokenRefusals(explain=dev)
        published = PublishedKeys(config.jwks, config.jwks_refresh, config.algorithms, clock) if config.jwks else None
        tokens, made_up = None, False
        if dev and not (secret or config.keys):
            secret, made_up = secrets.token_hex(64), True  # so that it knows the tokens that it issues itself
        if secret or config.public_key or config.keys or published:
            tokens = TokenVerifier.from_config(
                config,
                secret,
                clock,
                environment=environment,
                remote=published,
                revocations=revocations,
                refusals=refusals,
                weak=dev,
                longest=longest,
            )
        # Who signed, for whom and for how long is no question where the application itself says who it is.
        checks = ClaimChecks(leeway=config.leeway, anonymous=config.anonymous, revocations=revocations, clock=clock)
        return cls(
            tokens,
            engine,
            cookie=config.cookie,
            published=published,
            revocations=revocations,
            refusals=refusals,
            checks=checks,
            made_up=made_up and not (config.public_key or published),
            clock=clock,
        )

    @property
    def has_secret(self) -> bool:
        """Whether somebody beside this process can make tokens that are right."""
        return self.verifies and not (self._made_up and self._sessions is None)

    @property
    def verifies(self) -> bool:
        """Whether there is any token that could be right."""
        return self._tokens is not None or self._sessions is not None

    def ask(self, lookup: Lookup, keep: float, timeout: float, cookie: str | None = None) -> None:
        """Let the application say of tokens that are no JSON Web Tokens. See `SessionTokens`."""
        self._sessions = SessionTokens(lookup, keep, timeout, self._checks, self._refusals, self._clock)
        self.cookie = cookie or self.cookie

    async def stop(self) -> None:
        for each in (self._published, self._sessions):
            if each is not None:
                await each.stop()

    # ------------------------------------------------------------------------------------------------------ checking

    def carried(self, request: Handshake) -> str:
        """The token that came with a request, for a client that shows none in its first command; empty: none."""
        if not self.verifies:
            return ""
        return request.token or (request.cookie(self.cookie) if self.cookie else "")

    def connection(self, token: str) -> ConnectionClaims | Awaitable[ConnectionClaims]:
        """Raises, now or when it is awaited, as `TokenVerifier.connection`."""
        if self._tickets is not None and token.startswith(PREFIX):
            return self._tickets.connection(token)
        if self._sessions is not None and (self._tokens is None or token.count(".") != 2):
            return self._sessions.connection(token)
        if self._tokens is None:
            raise Disconnect.invalid_token(why_nobody(None))
        return self._tokens.connection(token)

    def subscription(self, token: str, channel: str, user: str) -> SubscriptionClaims | Awaitable[SubscriptionClaims]:
        """Raises, now or when it is awaited, as `TokenVerifier.subscription`."""
        if self._tokens is None:
            raise Refusal.permission_denied("the server has no secret to check the token with")
        return self._tokens.subscription(token, channel, user)

    # -------------------------------------------------------------------------------------------------------- making

    def issue(self, user: str, **options: Unpack[TokenOptions]) -> str:
        """A token. Raises ConfigError when there is no secret to sign it with."""
        if self._tokens is None:
            raise unsigned("a token")
        return self._tokens.issue(user, **options)

    def ticket(
        self, user: str, *, expires_in: float | None = None, claims: Mapping[str, Any] = MappingProxyType({})
    ) -> str:
        """A one-time ticket. Raises as `issue`."""
        return self.ticket_for(all_claims(user, self._clock.wall(), expires_in=expires_in, claims=claims))

    def ticket_for(self, claims: bytes | dict[str, Any]) -> str:
        """A one-time ticket that stands for claims. Raises as `issue`."""
        if self._tickets is None:
            raise unsigned("a ticket")
        return self._tickets.issue(claims)
