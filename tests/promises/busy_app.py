"""A server that is busy while it is told so: many are behind, and are written nothing."""

from typing import Any

from freshet import Freshet
from freshet.config import parse
from freshet.model.frame import Frame
from freshet.session import outbox
from freshet.session.outbox import Outbox
from freshet.transports import native

live = Freshet(
    config=parse(
        {
            "timing": {"ping_interval": 3600},
            "tokens": {"anonymous": True},
            "api": {"anonymous": True},
            "channels": [{"match": "*", "history": {"size": 100, "ttl": 60}, "publish": "client", "read": "client"}],
        }
    ),
    environment={},
)
behind = [Outbox(live._node.turn, 1024) for _ in range(outbox.CROWD + 1)]


@live.api_rpc("busy")
async def busy(_: Any) -> None:
    outbox.PORTION_BEHIND = -1
    outbox.PATIENCE = native.PATIENCE = 10**9  # turns, of which there are many where nobody else is served
    for each in behind:
        each.replay([Frame(b"waits")])


@live.api_rpc("relieve")
async def relieve(_: Any) -> None:
    for each in behind:
        each.take()
    outbox.PORTION_BEHIND = outbox.PORTION
