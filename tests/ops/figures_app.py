"""An application whose clients are late, cut off, refused or told something: what its metrics are compared with."""

import asyncio
import os
import time
from typing import Any

from freshet import Freshet, Room, RoomSession, Run, Session
from tests.ops.figures import DELAY

live = Freshet.from_config(os.environ["TEST_CONFIG"])
shop = live.namespace("/shop", recovery=30)


@live.rpc("late")
async def late(session: Session, data: Any) -> None:
    """What it publishes waits for this process, wherever it has been meanwhile."""
    publishing = asyncio.ensure_future(live.publish("late", data))
    await asyncio.sleep(0)
    time.sleep(DELAY)
    await publishing


@live.rpc("break")
async def broken(session: Session, data: Any) -> None:
    raise RuntimeError("a mistake of the application")


@live.room("room:{name}")
class Echo(Room):
    async def on_message(self, session: RoomSession, data: Any) -> None:
        await self.broadcast(data)


live.state("board", publish="client", size=50_000)


@live.run("chat:{chat}")
async def answer(run: Run, message: dict[str, Any], chat: str) -> None:
    await run.write("hello")
