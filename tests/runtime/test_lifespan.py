"""What a server is told of an application's start and end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from freshet.runtime.lifespan import serve_lifespan


async def told(fails: bool) -> list[str]:
    """Everything that happens, in order."""
    seen: list[str] = []
    coming = ["lifespan.startup", "lifespan.shutdown"]

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        if fails:
            raise RuntimeError("the broker is away")
        seen.append("runs")
        yield
        seen.append("has ended")

    async def receive() -> Any:
        seen.append(coming[0])
        return {"type": coming.pop(0)}

    async def send(message: Any) -> None:
        seen.append(" ".join([message["type"], message.get("message", "")]).strip())

    await serve_lifespan(running(), receive, send)
    return seen


async def test_an_application_runs_between_startup_and_shutdown() -> None:
    begin = ["lifespan.startup", "runs", "lifespan.startup.complete"]
    assert await told(fails=False) == [*begin, "lifespan.shutdown", "has ended", "lifespan.shutdown.complete"]


async def test_a_start_that_fails_is_told_with_its_reason() -> None:
    assert await told(fails=True) == ["lifespan.startup", "lifespan.startup.failed the broker is away"]
