"""Requests to the application over HTTP, signed as Standard Webhooks says, so that a team in any language decides.

A question is answered in time or it is refused: a receiver that is slow, gone or confused never lets anybody in. An
event is delivered at least once, as long as this process lives and the receiver comes back within minutes.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import asyncio
import base64
import binascii
import hmac
import logging
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from freshet.errors import ConfigError
from freshet.observe.logs import BoundedLog
from freshet.policy.http_client import httpx_for
from freshet.runtime.clock import Clock
from freshet.runtime.tasks import Tasks

if TYPE_CHECKING:
    from freshet.policy.http_client import AsyncClient, Response

log = logging.getLogger("freshet.webhooks")

KIB = 1024
ANSWER = 64 * KIB  # bytes of an answer that are read
KEY = 24  # bytes of a secret that the standard asks for at least
WAITING = 1000  # requests that wait for their turn, and events that are not delivered yet
BREAKS_AFTER = 5  # failures in a row
LONGEST_BREAK = 30.0  # seconds
RETRIES = (1.0, 5.0, 30.0, 120.0, 300.0)  # seconds before each further attempt to deliver an event
DROPPED = frozenset({HTTPStatus.GONE})

T = TypeVar("T")


class WebhookFailed(Exception):
    """No answer that counts. status: HTTP's, or 0. retry_after: seconds that the receiver asks for."""

    def __init__(self, why: str, status: int = 0, retry_after: float = 0) -> None:
        super().__init__(why)
        self.status = status
        self.retry_after = retry_after

    @property
    def is_outage(self) -> bool:
        """Whether the receiver is not well, rather than of another opinion."""
        return self.status in (0, HTTPStatus.TOO_MANY_REQUESTS) or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def key_of(secret: str) -> bytes:
    """The key that `whsec_...` stands for. Raises ConfigError."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ConfigError("webhooks.secret", "expected `whsec_` and base64") from None
    if not secret.startswith("whsec_") or len(key) < KEY:
        raise ConfigError("webhooks.secret", f"expected `whsec_` and {KEY} random bytes or more in base64")
    return key


def sign(key: bytes, id: str, timestamp: int, body: bytes) -> str:
    signature = hmac.digest(key, f"{id}.{timestamp}.".encode() + body, sha256)
    return f"v1,{base64.b64encode(signature).decode()}"


class Breaker:
    """Stops asking a receiver that fails again and again, and lets one request try it now and then."""

    __slots__ = ("_clock", "_failures", "_until")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0  # in a row
        self._until = 0.0

    def left(self) -> float:
        """Seconds until it is worth trying; 0: now. Whoever is told 0 tries; the others wait for what comes of it."""
        left = self._until - self._clock.monotonic()
        if left > 0:
            return left
        if self._failures >= BREAKS_AFTER:
            self._until = self._clock.monotonic() + self._pause()
        return 0.0

    def _pause(self) -> float:
        return min(LONGEST_BREAK, 0.5 * 2.0 ** min(self._failures - BREAKS_AFTER, 16))

    def succeeded(self) -> None:
        self._failures, self._until = 0, 0.0

    def failed(self, retry_after: float = 0) -> None:
        self._failures += 1
        if self._failures >= BREAKS_AFTER or retry_after:
            pause = max(self._pause() if self._failures >= BREAKS_AFTER else 0.0, min(retry_after, LONGEST_BREAK))
            self._until = self._clock.monotonic() + pause


class WebhookClient:
    """One receiver. keys: the first signs, and so do the others, for a receiver that has not changed its key yet.

    timeout: seconds for an answer. concurrency: requests at a time.
    """

    def __init__(self, url: str, keys: Sequence[bytes], timeout: float, concurrency: int, clock: Clock) -> None:
        self.failures = 0  # questions without an answer, and events that were given up
        self._url = url
        self._keys = list(keys)
        self._timeout = timeout
        self._concurrency = concurrency
        self._clock = clock
        self._breaker = Breaker(clock)
        self._tasks = Tasks()
        self._waiting = 0
        self._gone = False
        self._log = BoundedLog(log)
        self._httpx = httpx_for("webhooks")
        self._http: AsyncClient | None = None
        self._turns: asyncio.Semaphore | None = None

    async def start(self) -> None:
        limits = self._httpx.Limits(max_connections=self._concurrency, max_keepalive_connections=self._concurrency)
        self._http = self._httpx.AsyncClient(timeout=self._timeout, limits=limits, follow_redirects=False)
        self._turns = asyncio.Semaphore(self._concurrency)

    async def stop(self, grace: float = 0.0) -> None:
        """Deliver what can be delivered within `grace` seconds, and give up the rest."""
        await self._tasks.stop(grace)
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    # ------------------------------------------------------------------------------------------------------- questions

    async def ask(self, kind: str, data: Any, answer: type[T], *, again: bool) -> T:
        """What the application answers. again: asking twice does no harm, so that a lost connection is no failure.

        Raises WebhookFailed for everything that is not such an answer, in time.
        """
        id = _id()
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    body = await self._request(id, kind, data)
                except WebhookFailed as why:
                    if not (again and isinstance(why.__cause__, (self._httpx.NetworkError, self._httpx.ProtocolError))):
                        raise
                    body = await self._request(id, kind, data)
            body.decode()  # what is `Raw` in it goes on to clients as it is
            return msgspec.json.decode(body, type=answer)
        except TimeoutError:
            self._breaker.failed()
            failed = WebhookFailed(f"no answer within {self._timeout:g} s")
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            failed = WebhookFailed(f"an answer that cannot be read: {error}", HTTPStatus.OK)
        except WebhookFailed as why:
            failed = why
        self.failures += 1
        self._log.warning(kind, "webhooks: %r was refused, %s gave no valid answer: %s", kind, self._url, failed)
        raise failed

    # ---------------------------------------------------------------------------------------------------------- events

    def notify(self, kind: str, data: Any) -> None:
        """Deliver an event, at least once, in its own time. Nobody waits for it."""
        if self._gone:
            return
        if len(self._tasks) >= WAITING:
            self.failures += 1
            self._log.warning("queue", "webhooks: %d events wait for %s, %r was dropped", WAITING, self._url, kind)
            return
        self._tasks.start(self._deliver(_id(), kind, data), f"webhook: {kind}")

    async def _deliver(self, id: str, kind: str, data: Any) -> None:
        for pause in (*RETRIES, None):
            try:
                await self._request(id, kind, data)
                return
            except WebhookFailed as why:
                if why.status in DROPPED:
                    self._gone = True
                    log.error("webhooks: %s answers 410 Gone, no more events are sent there", self._url)
                    return
                if pause is None:
                    self.failures += 1
                    self._log.warning("given up", "webhooks: %r was not delivered to %s: %s", kind, self._url, why)
                    return
                await asyncio.sleep(max(pause * (0.5 + secrets.randbelow(1024) / 1024), why.retry_after))

    # ---------------------------------------------------------------------------------------------------- one request

    async def _request(self, id: str, kind: str, data: Any) -> bytes:
        """The body of a 2xx answer. Raises WebhookFailed."""
        if self._http is None or self._turns is None:
            raise WebhookFailed("the server is not running")
        if left := self._breaker.left():
            raise WebhookFailed(f"it failed too often: it is asked again in {left:.1f} s")
        if self._waiting >= WAITING:
            raise WebhookFailed(f"{WAITING} requests are waiting already")
        self._waiting += 1
        try:
            async with self._turns:
                body = await self._send(id, kind, data)
        except WebhookFailed as why:
            if why.is_outage:
                self._breaker.failed(why.retry_after)
            raise
        finally:
            self._waiting -= 1
        self._breaker.succeeded()
        return body

    async def _send(self, id: str, kind: str, data: Any) -> bytes:
        assert self._http is not None
        timestamp = int(self._clock.wall())
        body = msgspec.json.encode({"type": kind, "timestamp": datetime.fromtimestamp(timestamp, UTC), "data": data})
        headers = {
            "content-type": "application/json",
            "webhook-id": id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(sign(key, id, timestamp, body) for key in self._keys),
        }
        try:
            async with self._http.stream("POST", self._url, content=body, headers=headers) as response:
                answer = bytearray()
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) > ANSWER:
                        raise WebhookFailed(f"an answer of more than {ANSWER} bytes", response.status_code)
        except self._httpx.HTTPError as error:
            raise WebhookFailed(f"{type(error).__name__} {error}") from error
        if not response.is_success:
            raise WebhookFailed(f"status {response.status_code}", response.status_code, _retry_after(response))
        return bytes(answer)


def _id() -> str:
    return f"msg_{secrets.token_hex(12)}"


def _retry_after(response: "Response") -> float:
    text: str = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0.0
