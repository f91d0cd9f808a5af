"""The home page: one channel for three clients, each in its own protocol. Each of them is cut, and misses nothing."""

import asyncio
import time

from freshet import Freshet, History, Session, Welcome

PER_SECOND = 3

live = Freshet()
live.namespace("/", recovery=2 * 60)  # so that a Socket.IO client resumes its session
live.channel("river", history=History(size=200, ttl=2 * 60))


@live.on_connect
async def welcome(session: Session) -> Welcome:
    """Everyone may come in, as the same: a session is resumed for nobody but its user."""
    return Welcome(user="visitor")


async def flow() -> None:
    """n: the number of the message, which is its offset in the channel's log. at: milliseconds, the server's clock."""
    offset, due = 0, time.monotonic()
    while True:
        offset = (await live.publish("river", {"n": offset + 1, "at": time.time() * 1000})).offset
        due = max(due + 1 / PER_SECOND, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
