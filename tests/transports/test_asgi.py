"""The ASGI shell, called as a server calls it."""

import asyncio

from freshet import Freshet
from tests.tools.patience import seconds


async def test_a_goodbye_of_our_own_leaves_no_cancellation_behind() -> None:
    """What is around the call, a timeout or a task group, would take it for its own."""
    live = Freshet(secret="a secret for tests, thirty-two bytes")
    sent: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    asked: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    asked.put_nowait({"type": "websocket.connect"})
    scope = {"type": "websocket", "path": "/channels/news", "query_string": b"", "headers": [], "subprotocols": []}
    async with live.lifespan(), asyncio.timeout(seconds(5)):
        await live(scope, asked.get, sent.put)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
    assert sent.get_nowait()["type"] == "websocket.accept"
    assert sent.get_nowait() == {"type": "websocket.close", "code": 3500, "reason": "a token is required"}
