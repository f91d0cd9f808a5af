"""What a probe asks: does the process live, and should new clients be sent here?

An engine that is away for a moment takes no node away: that is the same for all nodes, and those clients that are here
keep what they have. After a while it does, see `[health]`: whoever comes could not be served.
"""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse

from freshet.config import HealthLimits

_HEADERS = {"Cache-Control": "no-store"}


class Health:
    """Answers both. state: `ready`; anything else is 503: before the node has begun, and from when it drains.

    engine_away: seconds since when the engine does not answer, 0: it does. loop_lag: how late the event loop was last,
    seconds.
    """

    def __init__(
        self,
        limits: HealthLimits,
        state: Callable[[], str],
        engine_away: Callable[[], float],
        loop_lag: Callable[[], float],
    ) -> None:
        self._limits = limits
        self._state = state
        self._engine_away = engine_away
        self._loop_lag = loop_lag

    async def live(self, _: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"}, headers=_HEADERS)

    async def ready(self, _: Request) -> JSONResponse:
        state, away, lag = self._state(), self._engine_away(), self._loop_lag()
        if state == "ready" and 0 < self._limits.engine < away:
            state = "engine away"
        elif state == "ready" and 0 < self._limits.loop_lag < lag:
            state = "late"
        body = {
            "status": state,
            "engine": "away" if away else "ok",
            "engine_away": round(away, 3),
            "loop_lag": round(lag, 3),
            "draining": state == "draining",
        }
        return JSONResponse(body, 200 if state == "ready" else 503, _HEADERS)
