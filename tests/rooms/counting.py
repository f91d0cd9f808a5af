"""Clients that count in a room, over servers that may die under them, and what they saw of it."""

import asyncio
import json
import time
from collections.abc import Sequence
from itertools import count

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.tools.linearizability import Increment
from tests.tools.patience import seconds
from tests.tools.serving import Server

CHANNEL = "counter:x"
PATIENCE = 20.0  # seconds for a reply, scaled


class CountingClient:
    """One client, one operation at a time. pids: of the processes that were the room's. extra: goes along once."""

    def __init__(self, number: int, servers: Sequence[Server]) -> None:
        self.history: list[Increment] = []
        self.pids: list[int] = []
        self.extra: dict[str, int] = {}
        self._servers = servers
        self._number = number
        self._ids = count(1)
        self._at = number
        self._pushes: dict[str, dict[str, int]] = {}

    async def run(self, until: asyncio.Event) -> None:
        while not until.is_set():
            server = self._servers[self._at % len(self._servers)]
            self._at += 1
            try:
                async with connect(server.ws("/connection/websocket"), open_timeout=seconds(5)) as socket:
                    await self._ask(socket, {"connect": {}})
                    await self._ask(socket, {"subscribe": {"channel": CHANNEL}})
                    while not until.is_set():
                        await self._increment(socket)
            except (OSError, TimeoutError, WebSocketException):
                await asyncio.sleep(0.02)

    async def _increment(self, socket: ClientConnection) -> None:
        name = f"{self._number}:{next(self._ids)}"
        call = time.monotonic()
        extra, self.extra = self.extra, {}
        request = {"publish": {"channel": CHANNEL, "data": {"id": name, **extra}}}
        try:
            reply = await self._ask(socket, request)
        except BaseException:
            self._note(name, call, "unknown")
            raise
        code = reply.get("error", {}).get("code")
        # 100 says that something failed on the way: it may have been done.
        self._note(name, call, "ok" if code is None else "unknown" if code == 100 else "refused")

    def _note(self, name: str, call: float, outcome: str) -> None:
        answer = self._pushes.pop(name, {})
        if "pid" in answer:
            self.pids.append(answer["pid"])
        self.history.append(Increment(call, time.monotonic(), outcome, answer.get("value")))  # type: ignore[arg-type]

    async def _ask(self, socket: ClientConnection, command: dict[str, object]) -> dict[str, dict[str, int]]:
        id = next(self._ids)
        await socket.send(json.dumps({"id": id, **command}))
        async with asyncio.timeout(seconds(PATIENCE)):
            while True:
                for line in str(await socket.recv()).split("\n"):
                    reply = json.loads(line)
                    if reply.get("id") == id:
                        return dict(reply)
                    if not reply:
                        await socket.send("{}")
                    data = reply.get("push", {}).get("pub", {}).get("data", {})
                    if "id" in data:
                        self._pushes[data["id"]] = data
