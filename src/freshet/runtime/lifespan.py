"""The lifespan protocol of ASGI: https://asgi.readthedocs.io/en/latest/specs/lifespan.html"""

from contextlib import AbstractAsyncContextManager

from starlette.types import Receive, Send


async def serve_lifespan(running: AbstractAsyncContextManager[None], receive: Receive, send: Send) -> None:
    """Enter `running` when the server starts, leave it when it ends. What it raises at the start fails the start."""
    await receive()  # lifespan.startup
    try:
        await running.__aenter__()
    except Exception as error:
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()  # lifespan.shutdown
    await running.__aexit__(None, None, None)
    await send({"type": "lifespan.shutdown.complete"})
