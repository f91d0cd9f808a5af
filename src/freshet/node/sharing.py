"""Rates of all nodes together: each limits by its own buckets, and is charged for what the others let through.

So no command waits for the engine. In the long run all nodes together let through the rate; after a quiet time the
burst, and what each lets through before it hears of the others. Who was let through more than a bucket holds waits for
that, too. When the engine is away no report arrives, and the rate is that of each node.
"""

import logging
from itertools import islice
from typing import Annotated, Literal

import msgspec

from freshet.errors import EngineUnavailable
from freshet.node.bus import Bus
from freshet.observe.logs import BoundedLog
from freshet.runtime.clock import Clock, Timer
from freshet.runtime.rates import Buckets, Rate, SharedBuckets
from freshet.runtime.tasks import Tasks

log = logging.getLogger("freshet.limits")

USED = "used"
INTERVAL = 0.1  # seconds from the first use to the report
PORTION = 1000  # buckets in one message
MOST = 1e9  # that a report can say was used of a bucket

Report = dict[str, dict[str, Annotated[float, msgspec.Meta(gt=0, le=MOST)]]]
"""What was used, by option and by whose the bucket is."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Report).decode


class Sharing:
    """One node's part in it. scope: whose the rates are: the option `rates.scope`."""

    def __init__(self, bus: Bus, clock: Clock, scope: Literal["process", "cluster"]) -> None:
        self._bus = bus
        self._clock = clock
        self._shared = scope == "cluster"
        self._by_option: dict[str, SharedBuckets] = {}
        self._timer: Timer | None = None
        self._tasks = Tasks()
        self._log = BoundedLog(log)
        bus.handlers[USED] = self._charged

    def buckets(self, option: str, rate: Rate) -> Buckets[str]:
        """The buckets of a rate, of all nodes or of this process."""
        if not self._shared:
            return Buckets(rate)
        made = self._by_option[option] = SharedBuckets(rate, self._used)
        return made

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._tasks.stop()

    def _used(self) -> None:
        if self._timer is None:
            self._timer = self._clock.call_later(INTERVAL, self._report)

    def _report(self) -> None:
        self._timer = None
        self._tasks.start(self._send(), "rates: report")

    async def _send(self) -> None:
        for option, buckets in self._by_option.items():
            used, buckets.reports = iter(buckets.reports.items()), {}
            while portion := dict(islice(used, PORTION)):
                try:
                    await self._bus.broadcast(USED, _encode({option: portion}))
                except EngineUnavailable as why:  # later it would no longer be true
                    self._log.warning(
                        "report",
                        "rates: the other nodes do not learn what is used here (%s), each limits by itself until then",
                        why,
                    )

    async def _charged(self, body: bytes) -> bytes:
        now = self._clock.monotonic()
        for option, used in _decode(body).items():
            if (buckets := self._by_option.get(option)) is not None:
                for key, cost in used.items():
                    buckets.charge(key, now, cost)
        return b""
