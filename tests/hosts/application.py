"""The application of the hosts suite: it keeps its logs where a restart of the server leaves them."""

import os

from freshet import Freshet, History
from freshet.config import parse
from tests.hosts.hosts import PING

live = Freshet(
    config=parse(
        {
            "engine": os.environ["TEST_ENGINE"],
            "tokens": {"anonymous": True},
            "api": {"anonymous": True},
            "timing": {"ping_interval": PING, "pong_timeout": 0.8 * PING},
        }
    ),
    environment={},
)
live.channel("log:{name}", history=History(size=2000, ttl=60), presence=True, publish="client", read="client")
