"""Public keys that an issuer publishes as a JSON Web Key Set (RFC 7517): fetched, kept, and fetched again.

A client can make the server look for a key: it names one that is not known. So all that wait share one fetch, unknown
names cause at most one fetch per window, and a name that was looked for in vain is not looked for again for a while.
While the issuer is away, the keys that are known stay.
"""

import asyncio
import ipaddress
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import msgspec

from freshet.errors import ConfigError
from freshet.policy.claims import UncheckedToken
from freshet.policy.http_client import httpx_for
from freshet.policy.keys import PUBLIC, VerificationKey, checked_algorithms, fitting, published_key
from freshet.runtime.clock import SYSTEM, Clock
from freshet.runtime.tasks import Tasks

KIB = 1024
LARGEST = 256 * KIB  # bytes of a key set
MOST = 64  # keys of it that are used
TIMEOUT = 5.0  # seconds for a fetch, from its beginning to its end
WINDOW = 30.0  # seconds between two fetches, whatever asks for them
EARLY = 0.8  # of the refresh interval, after which it is fetched in the background
UNKNOWN, UNKNOWN_TIME = 1024, 60.0  # key ids that were not found, and seconds for which they are remembered

log = logging.getLogger("freshet.tokens")


class KeySet(msgspec.Struct):
    """RFC 7517, section 5."""

    keys: list[dict[str, Any]]


class PublishedKeys:
    """The keys behind one URL. Implements `keys.RemoteKeys`.

    refresh: seconds after which they are fetched again. algorithms: those accepted, of all that are given.
    fetches: how many there were.

    Raises ConfigError for a URL that is neither https nor on this machine, and when `httpx` is not installed.
    """

    def __init__(
        self, url: str, refresh: float, algorithms: Sequence[str] | None = None, clock: Clock = SYSTEM
    ) -> None:
        _check(url)
        self.fetches = 0
        self._url = url
        self._refresh = refresh
        self._algorithms = [name for name in checked_algorithms(algorithms) if name in PUBLIC]
        if not self._algorithms:
            raise ConfigError("tokens.algorithms", f"tokens.jwks has keys for {', '.join(PUBLIC)}: none is accepted")
        self._now = clock.monotonic
        self._tasks = Tasks()
        self._keys: list[VerificationKey] = []
        self._read_at: float | None = None  # when the keys were
        self._failure = ""  # of the last fetch
        self._next = 0.0  # when the next fetch may be
        self._fetching: asyncio.Task[None] | None = None
        self._unknown: OrderedDict[str, float] = OrderedDict()  # key ids, and until when they count as that

    async def stop(self) -> None:
        await self._tasks.stop()

    def find(self, kid: str, algorithm: str) -> Sequence[VerificationKey] | Awaitable[Sequence[VerificationKey]]:
        """See `RemoteKeys.find`."""
        age = None if self._read_at is None else self._now() - self._read_at
        if age is None or age >= self._refresh:
            return self._after_fetch(kid, algorithm) if self._may_fetch() else self._known(kid, algorithm)
        found = fitting(self._keys, kid, algorithm)
        if not found and kid and self._unknown.get(kid, 0.0) <= self._now() and self._may_fetch():
            return self._after_fetch(kid, algorithm)
        if age >= self._refresh * EARLY and self._may_fetch():
            self._fetch()
        return self._known(kid, algorithm)

    def _may_fetch(self) -> bool:
        """Whether there is a fetch to wait for, or one may begin."""
        return self._fetching is not None or self._now() >= self._next

    def _known(self, kid: str, algorithm: str) -> Sequence[VerificationKey]:
        found = fitting(self._keys, kid, algorithm)
        if found:
            return found
        if self._failure:
            raise UncheckedToken(f"the key set could not be fetched from {self._url}: {self._failure}")
        return found

    async def _after_fetch(self, kid: str, algorithm: str) -> Sequence[VerificationKey]:
        await asyncio.shield(self._fetch())
        found = self._known(kid, algorithm)
        if not found and kid:
            self._unknown[kid] = self._now() + UNKNOWN_TIME
            self._unknown.move_to_end(kid)
            while len(self._unknown) > UNKNOWN:
                self._unknown.popitem(last=False)
        return found

    def _fetch(self) -> asyncio.Task[None]:
        """The one fetch that is under way."""
        if self._fetching is None:
            self._next = self._now() + WINDOW
            self._fetching = self._tasks.start(self._read(), "tokens: key set", may_fail=False)
        return self._fetching

    async def _read(self) -> None:
        try:
            self.fetches += 1
            keys = self._parse(await _download(self._url))
            self._keys, self._read_at, self._failure = keys, self._now(), ""
        except Exception as error:
            self._failure = str(error) or type(error).__name__
            kept = (
                f"the {len(self._keys)} keys of before stay" if self._keys else "no token of theirs passes until then"
            )
            log.warning(
                "tokens: no key set from %s (%s), asked again in %g s at the earliest; %s",
                self._url,
                self._failure,
                WINDOW,
                kept,
            )
        finally:
            self._fetching = None

    def _parse(self, body: bytes) -> list[VerificationKey]:
        try:
            entries = msgspec.json.decode(body, type=KeySet).keys
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ValueError(f"it is no JSON Web Key Set: {error}") from None
        read = (published_key(entry, self._algorithms) for entry in entries[:MOST])
        keys = [key for key in read if key is not None]
        if not keys:
            raise ValueError(f"none of its {len(entries)} keys checks signatures by {', '.join(self._algorithms)}")
        return keys


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, scheme = parts.hostname or "", parts.scheme
    except ValueError:
        host, scheme = "", ""
    if not host or scheme not in ("https", "http") or (scheme == "http" and not _is_loopback(host)):
        raise ConfigError("tokens.jwks", "expected https://..., or http:// to this machine: who changes it, gets in")
    httpx_for("tokens.jwks")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _download(url: str) -> bytes:
    """The body. Raises whatever goes wrong; a redirect does, and a body that is too large or too late."""
    httpx = httpx_for("tokens.jwks")
    body = bytearray()
    async with (
        asyncio.timeout(TIMEOUT),
        httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False) as client,
        client.stream("GET", url, headers={"Accept": "application/json"}) as response,
    ):
        if response.status_code != HTTPStatus.OK:
            raise ValueError(f"it answered {response.status_code}")
        async for part in response.aiter_bytes(16 * KIB):
            body += part
            if len(body) > LARGEST:
                raise ValueError(f"it has more than {LARGEST} bytes")
    return bytes(body)
