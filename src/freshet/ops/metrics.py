"""`/metrics`: this node in numbers, for Prometheus; with several workers, all that share the port.

They show who uses the server how much, so that a key is required, which is not that of the server API: whoever reads
metrics need not be able to publish.
"""

import hmac
import logging
from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from freshet.config import Metrics
from freshet.node.bus import Bus
from freshet.observe.counts import Snapshot
from freshet.observe.exposition import exposition
from freshet.observe.logs import BoundedLog

SNAPSHOT = "metrics"
TIMEOUT = 2.0  # seconds for the other workers; who does not reply is missing
NO_KEY = "There is no key for metrics: set {} or [metrics] key.\n"
WRONG = "A key is required: Authorization: Bearer ...\n"


class MetricsEndpoint:
    """snapshot: of this node. key: None: nobody is answered, unless the configuration lets everybody ask."""

    def __init__(self, snapshot: Callable[[], Snapshot], bus: Bus, config: Metrics, key: str | None) -> None:
        self._snapshot = snapshot
        self._bus = bus
        self._config = config
        self._key = key
        self._log = BoundedLog(logging.getLogger("freshet.metrics"))
        bus.handlers[SNAPSHOT] = self._handle

    async def __call__(self, request: Request) -> Response:
        if (why := self._refusal(request)) is not None:
            client = request.client.host if request.client else "?"
            self._log.warning("key", "a request for /metrics from %s was refused: %s", client, why.strip())
            return PlainTextResponse(why, 401, {"WWW-Authenticate": "Bearer"})
        text, media_type = exposition(await self._all(), request.headers.get("accept", ""))
        return Response(text, media_type=media_type, headers={"Cache-Control": "no-store"})

    def _refusal(self, request: Request) -> str | None:
        if self._config.anonymous:
            return None
        if not self._key:
            return NO_KEY.format(self._config.key_env)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self._key.encode())
        return None if scheme.lower() == "bearer" and right else WRONG

    async def _all(self) -> dict[str, Snapshot]:
        """By the place of the worker, which the one that follows it has, too."""
        replies = await self._bus.request_neighbours(SNAPSHOT, b"", TIMEOUT)
        return {str(place): msgspec.msgpack.decode(reply, type=Snapshot) for place, reply in replies.items()}

    async def _handle(self, body: bytes) -> bytes:
        return msgspec.msgpack.encode(self._snapshot())
