"""Shared cursors: everyone on the page sees everyone's pointer, up to 30 times a second from each.

Three robots are always there, so that nobody is alone: each goes its own way, and the first follows who moved last.
"""

import asyncio
import math
import time
from collections import deque
from typing import Annotated

import msgspec
from msgspec import Meta

from freshet import Freshet, Refusal, Session, Welcome
from freshet.demos.pace import Pace
from freshet.demos.visitors import Visitor

live = Freshet()
# No log: where a pointer was a second ago is worth nothing.
stage = live.channel("stage", presence=True, join_leave=True, publish="subscriber")

Share = Annotated[float, Meta(ge=0, le=1)]  # of the stage's width or height


class Pointer(msgspec.Struct):
    """Where a pointer is; here is false when it has left the stage. at: the server's clock in milliseconds."""

    x: Share
    y: Share
    here: bool = True
    at: float = 0


class Robot(Pointer):
    """A pointer that the server moves. robot: its name; no visitor can say that it is one."""

    robot: str = ""

    def move(self, seconds: float, phase: float, to: Pointer | None) -> None:
        """A step along its own loop, or towards a visitor."""
        x = to.x + 0.06 if to else 0.5 + 0.4 * math.sin(seconds * (0.31 + phase / 9) + phase)
        y = to.y + 0.08 if to else 0.5 + 0.36 * math.sin(seconds * (0.47 - phase / 11) + phase * 2)
        self.x = min(1.0, max(0.0, self.x + (x - self.x) * 0.12))
        self.y = min(1.0, max(0.0, self.y + (y - self.y) * 0.12))
        self.at = time.time() * 1000


@live.on_connect
async def welcome(session: Session, data: Visitor | None) -> Welcome:
    """Everyone may come in; `info` is what the others see of them."""
    if data is None:
        raise Refusal.bad_request("a visitor needs a name")
    return Welcome(user=session.id, info=data)


pace = Pace(rate=40, burst=40)


@stage.on_publish
async def move(session: Session, data: Pointer) -> Pointer:
    """Whose pointer it is comes with every publication, from the server: nobody moves another one's."""
    pace.check(session)
    data.at = time.time() * 1000
    if data.here:
        moved.append(data)
    return data


ROBOTS = tuple(Robot(0.5, 0.5, robot=name) for name in ("Robot Perch", "Robot Pike", "Robot Roach"))
BEAT = 1 / 20  # seconds
PATIENCE = 2000  # milliseconds for which the first robot follows a visitor that stands still
moved: deque[Pointer] = deque(maxlen=1)  # who moved last


async def swim() -> None:
    """Move the robots while somebody looks, for as long as the server runs."""
    while True:
        await asyncio.sleep(BEAT)
        if not live.statistics().clients:
            continue
        seconds = time.monotonic()
        for phase, robot in enumerate(ROBOTS):
            near = moved and phase == 0 and moved[0].at > time.time() * 1000 - PATIENCE
            robot.move(seconds, phase, moved[0] if near else None)
            await live.publish("stage", robot)
