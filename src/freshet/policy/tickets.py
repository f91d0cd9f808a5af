"""One-time tickets: for a URL, where a token must not stand.

An `EventSource` sends no headers. So its page asks for a ticket, with its token, and opens the stream with that: it is
signed, good for one use within half a minute, and stands for the claims of the token. That it has been used is an item
of a log, whose offset says who came first: so it cannot be used again, on no node.
"""

import hmac
import secrets
from typing import Any

import msgspec

from freshet.engines.base import USED_TICKET, Engine
from freshet.errors import EngineUnavailable
from freshet.model.json_text import Reader, encode
from freshet.model.log import History, PublishOptions
from freshet.policy.claims import ClaimChecks, ConnectionClaims, ExpiredToken, TokenRefusals, UncheckedToken, WrongToken
from freshet.policy.keys import SIGNATURES, VerificationKey
from freshet.policy.tokens import signed
from freshet.runtime.clock import SYSTEM, Clock

PREFIX = "ticket."
LIFETIME = 30.0  # seconds
USED = PublishOptions(history=History(1, 10 * LIFETIME))  # also where a clock is minutes behind

ALGORITHM = "HS256"


class _Ticket(msgspec.Struct):
    jti: str
    exp: float
    claims: msgspec.Raw


_read = Reader(_Ticket)


class Tickets:
    """secret: what tokens are signed with; tickets have a key of their own, so that neither passes for the other."""

    def __init__(
        self, secret: bytes, engine: Engine, checks: ClaimChecks, refusals: TokenRefusals, clock: Clock = SYSTEM
    ) -> None:
        material = hmac.digest(secret, b"freshet: tickets", "sha256")
        self._key = VerificationKey("", frozenset({ALGORITHM}), material)
        self._engine = engine
        self._checks = checks
        self._refusals = refusals
        self._wall = clock.wall
        self._began = clock.wall() if engine.forgets else 0.0

    def issue(self, claims: bytes | dict[str, Any]) -> str:
        """claims: those of a connection token, as JSON or as they are. Raises ValueError for those that cannot be."""
        raw = claims if isinstance(claims, bytes) else encode(claims)
        try:
            self._checks.connection(raw)
        except (WrongToken, ExpiredToken) as error:
            raise ValueError(f"no ticket for such claims: {str(error) or 'they have expired'}") from None
        ticket = _Ticket(secrets.token_urlsafe(15), self._wall() + LIFETIME, msgspec.Raw(raw))
        return PREFIX + SIGNATURES.encode(encode(ticket), self._key.material, ALGORITHM)

    async def connection(self, ticket: str) -> ConnectionClaims:
        """Who shows it, once. Raises `Refusal` 100 when nobody can say whether it was used, otherwise 3500."""
        try:
            it, now = self._read(ticket), self._wall()
            if it.exp <= now:
                raise WrongToken("exp", f"the ticket was not used within {LIFETIME:g} s")
            self._began = min(self._began, now)  # the clock may be set back
            if it.exp - LIFETIME < self._began:
                raise WrongToken("use", "nobody knows whether it was used before this server began")
            try:
                used = await self._engine.publish(f"{USED_TICKET}{it.jti}", b"", USED)
            except EngineUnavailable as why:
                raise UncheckedToken(f"whether a ticket was used: {why}") from None
            if used.offset != 1:
                raise WrongToken("use", "the ticket was used before")
            return self._checks.connection(bytes(it.claims))
        except (WrongToken, ExpiredToken, UncheckedToken) as error:
            raise self._refusals.connection(error) from None

    def _read(self, ticket: str) -> _Ticket:
        """Raises WrongToken."""
        try:
            return _read(signed(ticket.removeprefix(PREFIX), [self._key])[1])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise WrongToken("form", "it holds no ticket") from None
