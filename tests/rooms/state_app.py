"""A server with maps in which anybody may write. The key `owner` says which process has a map."""

import os
from typing import Any

from freshet import Freshet, Room, RoomSession

live = Freshet.from_config()
maps = live.state("map:{name}", publish="client", delta=True)


@maps.on_change
async def mark(room: Room, session: RoomSession | None, key: str, data: Any) -> None:
    if room.state.get("owner") != os.getpid():
        await room.state.set("owner", os.getpid())
