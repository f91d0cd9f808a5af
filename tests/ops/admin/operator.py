"""An operator without a browser: the calls and the channels of the admin page, over its WebSocket."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server


class Operator:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.items: list[dict[str, Any]] = []
        """What the tails brought."""
        self._ids = count(1)

    async def ask(self, method: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The reply, or the error."""
        id = next(self._ids)
        await self.socket.send(json.dumps({"id": id, method: request}))
        while True:
            for reply in await self._read():
                if reply.get("id") == id:
                    return reply.get(method, reply)

    async def call(self, method: str, **data: Any) -> Any:
        reply = await self.ask("rpc", {"method": method, "data": data})
        return reply.get("data", reply.get("error"))

    async def item(self, **wanted: Any) -> dict[str, Any]:
        """The next item of a tail that has these values."""

        async def found() -> dict[str, Any] | None:
            for item in self.items:
                if all(item.get(name) == value for name, value in wanted.items()):
                    self.items.remove(item)
                    return item
            await self._read()
            return None

        return await eventually(found, 10, f"{wanted}")

    async def _read(self) -> list[dict[str, Any]]:
        replies = [json.loads(line) for line in str(await self.socket.recv()).split("\n")]
        for reply in replies:
            if not reply:
                await self.socket.send("{}")
            data = reply.get("push", {}).get("pub", {}).get("data", {})
            self.items += data.get("items", [])
        return replies


@asynccontextmanager
async def operating(server: Server, key: str = "", path: str = "/admin", **headers: str) -> AsyncIterator[Operator]:
    url = server.ws(f"{path}/connection/websocket")
    async with connect(url, additional_headers=headers, ping_interval=None, open_timeout=seconds(10)) as socket:
        operator = Operator(socket)
        await operator.ask("connect", {"data": {"key": key}})
        yield operator
