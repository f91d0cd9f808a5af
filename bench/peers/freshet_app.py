"""Freshet, for the benchmarks: one room, which every dialect can subscribe to, and an event that publishes to it."""

import os

from freshet import Freshet, History, Session
from freshet.config import parse

live = Freshet(
    config=parse(
        {
            "engine": os.environ.get("REDIS_URL", "memory://"),
            "tokens": {"anonymous": True},
            "origins": ["*"],
            "limits": {"connects_per_second": 0},
            "timing": {"ping_interval": 3600, "pong_timeout": 3000},
        }
    ),
    environment={},
)
live.channel("bench", history=History(size=100, ttl=60))
# Over Redis, clients that lost their connection come back as the same session, as with the peer's recovery.
default = live.namespace("/", recovery=120 if "REDIS_URL" in os.environ else 0)
kept = live.namespace("/kept", recovery=120)


@kept.on("enter")
@default.on("enter")
async def enter(session: Session) -> bool:
    await session.join("bench")
    return True


@default.on("say")
async def say(session: Session, data: dict[str, object]) -> None:
    await live.publish("bench", data, tags={"event": "news"})  # as `emit`, but to all namespaces
