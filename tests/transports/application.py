"""The application of the transport contract: open, short-lived, and told on by its own API."""

from freshet import Freshet, History
from freshet.config import parse

live = Freshet(
    config=parse(
        {
            "tokens": {"anonymous": True},
            "api": {"anonymous": True},
            "timing": {"ping_interval": 2, "pong_timeout": 1},
        }
    ),
    environment={},
)
live.channel("log:{name}", history=History(size=2000, ttl=60), presence=True, publish="client")
live.channel("flood")
