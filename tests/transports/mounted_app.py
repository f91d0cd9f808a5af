"""An application with a middleware that notes what it sees, and Freshet under /live."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from freshet import Freshet

live = Freshet(dev=True)
saw: list[str] = []


class Notes:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            saw.append(scope["path"])
        await self._app(scope, receive, send)


async def what_it_saw(request: Request) -> JSONResponse:
    return JSONResponse(saw)


api = Starlette(
    routes=[Route("/saw", what_it_saw), Mount("/live", live)], middleware=[Middleware(Notes)], lifespan=live.lifespan
)


class Own(Freshet):
    """An application that is a Freshet, and has something to say before it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            saw.append(scope["path"])
        if scope.get("path") == "/saw":
            await JSONResponse(saw)(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


own = Own(dev=True)
