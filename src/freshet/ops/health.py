"""What a probe asks: does the process live, and should new clients be sent here?

Not whether the engine can be reached: that is the same for all nodes, and to take them all away at once helps nobody.
Clients that are here keep what they have while it is away, and whoever publishes gets an error.
"""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse

_HEADERS = {"Cache-Control": "no-store"}


class Health:
    """Answers both. state: `ready`; anything else is 503: before the node has begun, and from when it drains."""

    def __init__(self, state: Callable[[], str]) -> None:
        self._state = state

    async def live(self, _: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"}, headers=_HEADERS)

    async def ready(self, _: Request) -> JSONResponse:
        state = self._state()
        return JSONResponse({"status": state}, 200 if state == "ready" else 503, _HEADERS)
