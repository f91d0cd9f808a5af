"""Tokens that only the application can check: an opaque token, or the cookie of its own sessions.

The application's hook says what the claims of such a token are, and that is kept for a while, by the token's hash. A
storm of clients that reconnect asks once for each token, and a flood of made-up tokens is bounded.
"""

import asyncio
import hashlib
import logging
import traceback
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from freshet.errors import Refusal
from freshet.observe.logs import BoundedLog
from freshet.policy.claims import ClaimChecks, ConnectionClaims, ExpiredToken, TokenRefusals, WrongToken
from freshet.rules.hooks import to_json
from freshet.runtime.clock import SYSTEM, Clock
from freshet.runtime.tasks import Tasks

KEPT = 10_000  # answers
REFUSED_TIME = 5.0  # seconds for which a refusal is kept, at most
AT_ONCE = 64  # questions to the application; more wait
WAITING = 1000  # clients with different tokens that wait; more are refused for now

log = logging.getLogger("freshet.tokens")

Lookup = Callable[[str], Awaitable[Mapping[str, Any] | None]]
"""The claims of a token, as those of a JSON Web Token; None: it is not right."""


class _Answer(NamedTuple):
    """until: by the monotonic clock. claims: JSON; None: the token is not right. error: nobody could say."""

    until: float = 0.0
    claims: bytes | None = None
    error: Refusal | None = None


class SessionTokens:
    """lookup: asks the application. keep: seconds for which what it says is kept.
    timeout: seconds that it has to answer. checks: of what it says."""

    def __init__(
        self,
        lookup: Lookup,
        keep: float,
        timeout: float,
        checks: ClaimChecks,
        refusals: TokenRefusals,
        clock: Clock = SYSTEM,
    ) -> None:
        self._lookup = lookup
        self._keep = keep
        self._timeout = timeout
        self._checks = checks
        self._refusals = refusals
        self._clock = clock
        self._answers: OrderedDict[bytes, _Answer] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[_Answer]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks = Tasks()
        self._log = BoundedLog(log)

    def __len__(self) -> int:
        """How many answers are kept."""
        return len(self._answers)

    async def stop(self) -> None:
        await self._tasks.stop()

    def connection(self, token: str) -> ConnectionClaims | Awaitable[ConnectionClaims]:
        """Raises as `TokenVerifier.connection`, and `Refusal` 111 when too many others are being checked."""
        key = hashlib.sha256(token.encode(errors="replace")).digest()
        answer = self._answers.get(key)
        if answer is None or answer.until <= self._clock.monotonic():
            return self._ask(key, token)
        try:
            return self._believed(answer)
        except WrongToken as error:
            if error.check != "revocation":
                raise self._refusals.connection(error) from None
        except ExpiredToken:
            pass
        return self._ask(key, token)  # what was said before that may be different now

    async def _ask(self, key: bytes, token: str) -> ConnectionClaims:
        asking = self._asking.get(key)
        if asking is None:
            if len(self._asking) >= WAITING:
                raise Refusal.too_many_requests("too many tokens are being checked: try again")
            asking = self._asking[key] = self._tasks.start(self._answer(key, token), "tokens: lookup", may_fail=False)
        answer = await asyncio.shield(asking)
        if answer.error is not None:
            raise answer.error
        try:
            return self._believed(answer)
        except (WrongToken, ExpiredToken) as error:
            raise self._refusals.connection(error) from None

    async def _answer(self, key: bytes, token: str) -> _Answer:
        """Nothing is raised: several may wait for it, or nobody any more."""
        try:
            async with self._turns, asyncio.timeout(self._timeout):
                said = await self._lookup(token)
            claims = None if said is None else to_json({"iat": round(self._clock.wall(), 3), **said})
        except Refusal as why:
            return _Answer(error=why)
        except Exception as error:
            # Without its text, which may hold the token.
            where = traceback.extract_tb(error.__traceback__)[-1]
            name = type(error).__name__
            self._log.warning(
                "failed",
                "on_authenticate raised %s (%s:%s), the client is to try again",
                name,
                where.filename,
                where.lineno,
            )
            return _Answer(error=Refusal.internal("the token cannot be checked now"))
        finally:
            del self._asking[key]
        keep = self._keep if claims is not None else min(self._keep, REFUSED_TIME)
        answer = self._answers[key] = _Answer(self._clock.monotonic() + keep, claims)
        self._answers.move_to_end(key)
        while len(self._answers) > KEPT:
            self._answers.popitem(last=False)
        return answer

    def _believed(self, answer: _Answer) -> ConnectionClaims:
        if answer.claims is None:
            raise WrongToken("session", "the application does not know it")
        return self._checks.connection(answer.claims)
