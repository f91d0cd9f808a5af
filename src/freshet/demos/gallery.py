"""The gallery: the home page, every demo's page, its connections, and its source, which the page shows."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from freshet import Freshet, Session
from freshet.demos import assistant, auction, chat, cursors, home, lab, reading, ships, ticker

log = logging.getLogger("freshet.demos")

STATIC = Path(__file__).parents[1] / "static"


class Demo(NamedTuple):
    """file: its source; its page is at `/{name}/`, its connections at `/live/{name}/`. run: what goes on beside it."""

    file: str
    live: Freshet
    run: Callable[[], Awaitable[None]] | None = None

    @property
    def name(self) -> str:
        return Path(self.file).stem


# A new demo is entered here, and in frontend/gallery.ts.
DEMOS = (
    Demo(ticker.__file__, ticker.live, ticker.trade),
    Demo(auction.__file__, auction.live),
    Demo(ships.__file__, ships.live),
    Demo(chat.__file__, chat.live),
    Demo(assistant.__file__, assistant.live),
    Demo(cursors.__file__, cursors.live, cursors.swim),
    Demo(lab.__file__, lab.live, lab.run),
)
ALL = (Demo(home.__file__, home.live, home.flow), *DEMOS)


async def clock(session: Session, data: Any) -> float:
    """The server's clock in milliseconds: the page takes the difference to its own out of the latency."""
    return time.time() * 1000


class Pages(StaticFiles):
    """The built pages, with headers that let a page load what is ours and nothing else."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            response = await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != HTTPStatus.NOT_FOUND:
                raise
            return reading.missing()
        response.headers.update(reading.HEADERS)
        return response


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for demo in ALL:
            await stack.enter_async_context(demo.live.lifespan())
            if demo.run is not None:
                await stack.enter_async_context(beside(demo.run))
        yield


@asynccontextmanager
async def beside(run: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    async def guarded() -> None:
        try:
            await run()
        except Exception:
            log.exception("demo: %r failed, its page shows nothing new until a restart", run)

    task = asyncio.create_task(guarded())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


for demo in ALL:
    demo.live.rpc("clock")(clock)

app = Starlette(
    lifespan=lifespan,
    routes=[
        *(Mount(f"/live/{demo.name}", demo.live) for demo in ALL),
        *reading.routes(),
        Mount("/", Pages(directory=STATIC, html=True)),
    ],
)
