"""A visitor without a browser, who may do what no page of ours does."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from centrifuge import Client, ReplyError, Subscription

from tests.tools.clients import connected
from tests.tools.patience import seconds
from tests.tools.serving import Server


def visiting(server: Server, demo: str, name: str = "Nobody") -> AbstractAsyncContextManager[Client]:
    """An official client of one demo, connected until the block ends."""
    return connected(server, path=f"/live/{demo}/connection/websocket", token="", data={"name": name})


async def subscribed(client: Client, channel: str) -> Subscription:
    subscription = client.new_subscription(channel)
    await subscription.subscribe()
    await subscription.ready(timeout=seconds(5))
    return subscription


async def refusal_of(call: Callable[[], Awaitable[Any]], times: int) -> int | None:
    """The code of the first refusal among so many calls in a row, if there is one."""
    for _ in range(times):
        try:
            await call()
        except ReplyError as refusal:
            return int(refusal.code)
    return None
