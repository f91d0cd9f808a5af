"""`/metrics`: this node in numbers, for Prometheus; with several workers, all that share the port.

They tell who uses the server how much, so that a key is asked for, which is not that of the server API: whoever reads
metrics need not be able to publish.
"""

import asyncio
import hmac
import os
import resource
from collections import Counter
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from freshet.node.node import Node
from freshet.observe.counts import Snapshot
from freshet.observe.exposition import exposition

VERB = "metrics"
PATIENCE = 2.0  # seconds for the other workers; who does not answer is missing
NO_KEY = "There is no key for metrics: set {} or [metrics] key.\n"
WRONG = "A key is required: Authorization: Bearer ...\n"


class MetricsEndpoint:
    """key: None: nobody is answered, unless all may ask."""

    def __init__(self, node: Node, key: str | None) -> None:
        self._node = node
        self._key = key
        node.peers.verbs[VERB] = self._asked

    async def __call__(self, request: Request) -> Response:
        if (why := self._refusal(request)) is not None:
            return PlainTextResponse(why, 401, {"WWW-Authenticate": "Bearer"})
        text, media_type = exposition(await self._all(), request.headers.get("accept", ""))
        return Response(text, media_type=media_type, headers={"Cache-Control": "no-store"})

    def _refusal(self, request: Request) -> str | None:
        config = self._node.config.metrics
        if config.anonymous:
            return None
        if not self._key:
            return NO_KEY.format(config.key_env)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self._key.encode())
        return None if scheme.lower() == "bearer" and right else WRONG

    async def _all(self) -> dict[str, Snapshot]:
        """By the place of the worker, which the one that follows it has, too."""
        answers = await self._node.peers.ask_neighbours(VERB, b"", PATIENCE)
        return {str(place): msgspec.msgpack.decode(answer, type=Snapshot) for place, answer in answers.items()}

    async def _asked(self, body: bytes, gone: asyncio.Event) -> bytes:
        node, used = self._node, resource.getrusage(resource.RUSAGE_SELF)
        statistics = node.statistics()
        own = Snapshot(
            counts=node.counts,
            state=node.state,
            clients=dict(Counter(it.dialect.label for it in node.sessions() if it.connected)),
            users=statistics.users,
            channels=statistics.channels,
            subscriptions=statistics.subscriptions,
            turned_away=node.admission.refused,
            cpu=used.ru_utime + used.ru_stime,
            memory=_resident(),
            uptime=node.uptime(),
        )
        return msgspec.msgpack.encode(own)


def _resident() -> int:
    """Bytes; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
