"""Clients that count in rooms, over servers that may die under them, and what they saw of it."""

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

PATIENCE = 20.0  # seconds for a reply, scaled
STAY = 100  # operations on one connection; the next one is to the next server
PAUSE = 0.05  # seconds after an operation that was not done
INTERNAL, PERMISSION_DENIED = 100, 103


class CountingClient:
    """One client, one operation at a time.

    ids: of the operations in `history`. pids: of the processes that were the room's. extra: goes along once.
    """

    def __init__(self, number: int, servers: Sequence[Server], channel: str = "counter:x") -> None:
        self.channel = channel
        self.history: list[Increment] = []
        self.ids: list[str] = []
        self.pids: list[int] = []
        self.acknowledged = 0
        self.extra: dict[str, int] = {}
        self._servers = servers
        self._number = number
        self._ids = count(1)
        self._at = number
        self._pushes: dict[str, dict[str, int]] = {}

    @property
    def server(self) -> Server:
        """Where it is connected, or tries to be."""
        return self._servers[(self._at - 1) % len(self._servers)]

    async def run(self, until: asyncio.Event) -> None:
        while not until.is_set():
            self._at += 1
            try:
                async with connect(self.server.ws("/connection/websocket"), open_timeout=seconds(5)) as socket:
                    await self._enter(socket)
                    for _ in range(STAY):
                        if not until.is_set():
                            await self._increment(socket)
            except (OSError, TimeoutError, WebSocketException):
                await asyncio.sleep(PAUSE)

    async def _enter(self, socket: ClientConnection) -> None:
        """Raises OSError when the server cannot let it in."""
        for command in ({"connect": {}}, {"subscribe": {"channel": self.channel}}):
            reply = await self._ask(socket, command)
            if "error" in reply:
                raise OSError(str(reply["error"]))

    async def _increment(self, socket: ClientConnection) -> None:
        name = f"{self._number}:{next(self._ids)}"
        call = time.monotonic()
        extra, self.extra = self.extra, {}
        request = {"publish": {"channel": self.channel, "data": {"id": name, **extra}}}
        try:
            reply = await self._ask(socket, request)
        except BaseException:
            self._note(name, call, "unknown")
            raise
        code = reply.get("error", {}).get("code")
        # 100 says that something failed on the way: it may have been done.
        self._note(name, call, "ok" if code is None else "unknown" if code == INTERNAL else "refused")
        if code == PERMISSION_DENIED:
            raise OSError("it is not subscribed any more")
        if code is not None:
            await asyncio.sleep(PAUSE)

    def _note(self, name: str, call: float, outcome: str) -> None:
        answer = self._pushes.pop(name, {})
        if "pid" in answer:
            self.pids.append(answer["pid"])
        self.acknowledged += outcome == "ok"
        self.ids.append(name)
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
