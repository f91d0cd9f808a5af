"""What the tests with official clients share: one server with a rule of each sort, and clients that wait for nothing
for ever."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from centrifuge import Client, PublicationContext, Subscription

from freshet.policy.tokens import issue
from tests.tools.patience import seconds
from tests.tools.serving import Server

SECRET = "a secret for tests, thirty-two bytes"
CONFIG = f"""
personal_channels = true
origins = ["*"]
[tokens]
secret = "{SECRET}"
[[channels]]
match = "small:*"
history = {{ size = 2, ttl = 60 }}
publish = "client"
read = "client"
[[channels]]
match = "private:*"
subscribe = "token"
[[channels]]
match = "quiet:*"
[[channels]]
match = "delta:*"
history = {{ size = 1000, ttl = 60 }}
publish = "client"
delta = true
[[channels]]
match = "*"
history = {{ size = 1000, ttl = 60 }}
presence = true
join_leave = true
publish = "subscriber"
"""


def token(user: str = "alice", **options: Any) -> str:
    return issue(SECRET, user, **{"expires_in": 60, **options})


@asynccontextmanager
async def connected(
    server: Server, user: str = "alice", path: str = "/connection/websocket", **options: Any
) -> AsyncIterator[Client]:
    """An official client, connected until the block ends."""
    patience = {"timeout": seconds(5), "max_server_ping_delay": seconds(10)}
    client = Client(server.ws(path), **{"token": token(user), **patience, **options})
    await client.connect()
    try:
        await client.ready(timeout=seconds(5))
        yield client
    finally:
        await client.disconnect()


class Listener:
    """A subscription whose events wait in queues."""

    def __init__(self, client: Client, channel: str, **options: Any) -> None:
        self.subscription: Subscription = client.new_subscription(channel, **options)
        self.publications: asyncio.Queue[PublicationContext] = asyncio.Queue()
        self.subscribed: asyncio.Queue[Any] = asyncio.Queue()
        self.events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        hooks = self.subscription.events
        hooks.on_publication = self.publications.put
        hooks.on_subscribed = self.subscribed.put
        hooks.on_join = self._note("join")
        hooks.on_leave = self._note("leave")
        hooks.on_error = self._note("error")
        hooks.on_unsubscribed = self._note("unsubscribed")

    def _note(self, name: str) -> Callable[[Any], Any]:
        async def note(context: Any) -> None:
            await self.events.put((name, context))

        return note

    async def start(self) -> Any:
        """Subscribe; the context of the answer."""
        await self.subscription.subscribe()
        return await soon(self.subscribed.get())

    async def data(self, count: int) -> list[Any]:
        return [(await soon(self.publications.get())).pub.data for _ in range(count)]

    async def event(self, name: str) -> Any:
        """The next event of that name."""
        while True:
            got, context = await soon(self.events.get())
            if got == name:
                return context


async def soon(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, seconds(5))
