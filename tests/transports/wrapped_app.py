"""A FastAPI application with the middleware that many have, and Freshet under /live."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.middleware.gzip import GZipMiddleware

from freshet import Freshet, Handshake, Refusal, Session

live = Freshet(dev=True, environment={})
api = FastAPI(lifespan=live.lifespan)
api.mount("/live", live)


@api.middleware("http")
async def wrap(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers["X-Wrapped"] = "yes"
    return response


api.add_middleware(GZipMiddleware, minimum_size=1)


@live.on_connect
def tell_cookies(session: Session, request: Handshake) -> None:
    """Who comes with cookies learns them by the refusal."""
    if "cookie" in request.headers:
        raise Refusal(1000, request.headers["cookie"])


@api.get("/clients")
async def clients() -> int:
    return live.statistics().clients
