"""Shared cursors: everyone on the page sees everyone's pointer, up to 30 times a second from each."""

import time
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
    return data
