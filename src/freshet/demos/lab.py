"""A transport lab: one channel, over WebSocket, server-sent events and long polling, side by side.

There is nothing in it for each of the three: a channel is a URL, and the request says how it wants it.
"""

import asyncio
import time

from freshet import Freshet, History, Refusal, Session, Welcome

RATES = (1, 10, 50)  # messages per second

live = Freshet()
flows = live.channel("flow:{rate}", history=History(size=1000, ttl=60))


@live.on_connect
async def welcome(session: Session) -> Welcome:
    return Welcome(user=session.id)


@flows.on_subscribe
async def must_exist(session: Session, rate: str) -> None:
    if rate not in map(str, RATES):
        raise Refusal.unknown_channel(f"no flow of {rate!r} messages per second; there are {RATES}")


async def flow(rate: int) -> None:
    """n: the number of the message, which is its offset in the channel's log. at: milliseconds, the server's clock."""
    offset, due = 0, time.monotonic()
    while True:
        message = {"n": offset + 1, "at": time.time() * 1000, "text": "one message, three ways to get it"}
        offset = (await live.publish(f"flow:{rate}", message)).offset
        due = max(due + 1 / rate, time.monotonic())
        await asyncio.sleep(due - time.monotonic())


async def run() -> None:
    """All flows, for as long as the server runs."""
    await asyncio.gather(*(flow(rate) for rate in RATES))
