"""Freshet, for the benchmark of clients: one room, which every dialect hears, and an event that publishes to it."""

from freshet import Freshet, History, Session
from freshet.config import parse

live = Freshet(
    config=parse(
        {
            "tokens": {"anonymous": True},
            "origins": ["*"],
            "limits": {"connects_per_second": 0},
            "timing": {"ping_interval": 3600, "pong_timeout": 3000},
        }
    ),
    environment={},
)
live.channel("bench", history=History(size=100, ttl=60))
default = live.namespace("/")


@default.on("enter")
async def enter(session: Session) -> bool:
    await session.join("bench")
    return True


@default.on("say")
async def say(session: Session, data: dict[str, object]) -> None:
    await live.emit("news", data, room="bench")
