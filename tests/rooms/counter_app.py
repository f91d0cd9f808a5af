"""A server with rooms that count. A message may say where in a hook the process is to stop, or to be killed."""

import os
import secrets
import signal
from typing import Any

from freshet import Freshet, Room, RoomSession

live = Freshet.from_config()


@live.room("counter:{name}", publish="subscriber")
class Counter(Room):
    """Writes with each number who wanted it, and which activation of the room gave it."""

    async def on_start(self) -> None:
        self.activation = f"{os.getpid()}:{secrets.token_hex(4)}"

    async def on_join(self, session: RoomSession) -> None:
        await session.send({"kept": await self.store.get("value", 0)})

    async def on_message(self, session: RoomSession, data: dict[str, Any]) -> None:
        value = await self.store.get("value", 0) + 1
        if data.get("stop") == os.getpid():
            os.kill(os.getpid(), signal.SIGSTOP)  # it goes on from here, with a value that is old by then
        await self.store.put("value", value)
        await self.store.put(f"operation:{value:08}", [data["id"], self.activation])
        await session.send({"id": data["id"], "value": value, "pid": os.getpid()})


def _die(*arguments: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


@live.room("loud:{name}")
class Loud(Room):
    """Broadcasts what it counts. It is killed between the write and what it sends, or before the write."""

    async def on_join(self, session: RoomSession) -> None:
        await session.send({"kept": await self.store.get("value", 0)})

    async def on_message(self, session: RoomSession, data: dict[str, Any]) -> None:
        value = await self.store.get("value", 0) + 1
        await self.store.put("value", value)
        await self.broadcast({"value": value})
        if data["die"]:
            store = live._rooms._store
            assert store is not None
            if data["die"] == "before the write":
                store.commit = _die  # type: ignore[method-assign]
            else:
                live._node.engine.publish = _die  # type: ignore[method-assign]


@live.room("kept:{name}", publish="subscriber")
class KeptForClients(Room):
    """Counts in each client's state, and says so to it. A number sets the alarm, which is told to all."""

    async def on_join(self, session: RoomSession) -> None:
        session.state = 0
        await session.send({"rang": await self.store.get("rang", 0)})

    async def on_message(self, session: RoomSession, data: float | None) -> None:
        session.state += 1
        if data is not None:
            await self.set_alarm(data)
        await session.send({"said": session.state, "pid": os.getpid()})

    async def on_alarm(self) -> None:
        rang = await self.store.get("rang", 0) + 1
        await self.store.put("rang", rang)
        await self.broadcast({"rang": rang, "pid": os.getpid()})
