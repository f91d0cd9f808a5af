"""The application of the transport contract: open, short-lived, and told on by its own API."""

from starlette.types import Receive, Scope, Send

from freshet import Freshet, History
from freshet.config import parse
from tests.tools.patience import seconds

live = Freshet(
    config=parse(
        {
            "tokens": {"anonymous": True},
            "api": {"anonymous": True},
            "rates": {"channel": {"rate": 0.001, "burst": 1200}},
            "timing": {"ping_interval": seconds(2), "pong_timeout": seconds(1.5), "close_timeout": seconds(5)},
            "http": {"keep_alive": seconds(2)},
        }
    ),
    environment={},
)
live.channel("log:{name}", history=History(size=2000, ttl=60), presence=True, publish="client")
live.channel("flood")


async def around(scope: Scope, receive: Receive, send: Send) -> None:
    """The same behind an application of the user's own, so that whatever comes goes through ASGI."""
    await live(scope, receive, send)
