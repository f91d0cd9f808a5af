"""Two thousand clients fight for a hundred items, over four workers: a hundred are sold, each to one."""

import asyncio
import json
import resource
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server, serving

CLIENTS, ITEMS = 2000, 100
STOCK = "stock:lamp"


class Buyer:
    """Speaks the Centrifugal protocol. An error that is temporary is tried again, with the same id."""

    def __init__(self, number: int, socket: ClientConnection) -> None:
        self.id = f"buyer-{number}"
        self.bought = False
        self._socket = socket
        self._last = 0

    async def ask(self, command: str, request: dict[str, Any]) -> dict[str, Any]:
        self._last += 1
        await self._socket.send(json.dumps({"id": self._last, command: request}))
        while True:
            for line in str(await self._socket.recv()).splitlines():
                reply: dict[str, Any] = json.loads(line)
                if reply.get("id") == self._last:
                    return reply

    async def insist(self, command: str, request: dict[str, Any]) -> dict[str, Any]:
        reply: dict[str, Any] = {}

        async def done() -> bool:
            nonlocal reply
            reply = await self.ask(command, request)
            return not reply.get("error", {}).get("temporary")

        await eventually(done, 60)
        return reply

    async def come(self) -> None:
        await self.ask("connect", {})
        assert "error" not in await self.insist("subscribe", {"channel": STOCK})

    async def buy(self) -> None:
        reserved = await self.insist("rpc", {"method": STOCK, "data": {"do": "reserve", "id": self.id}})
        if "error" in reserved:
            assert reserved["error"]["message"] == "sold out"
            return
        committed = await self.insist("rpc", {"method": STOCK, "data": {"do": "commit", "id": self.id}})
        assert committed["rpc"]["data"]["id"] == self.id
        self.bought = True


async def arriving(server: Server, sockets: list[ClientConnection]) -> list[Buyer]:
    gate = asyncio.Semaphore(50)

    async def arrive(number: int) -> Buyer:
        async with gate:
            socket = await connect(server.ws("/connection/websocket"), open_timeout=seconds(30), compression=None)
            sockets.append(socket)
            buyer = Buyer(number, socket)
            await buyer.come()
            return buyer

    return await asyncio.gather(*(arrive(number) for number in range(CLIENTS)))


@pytest.mark.timeout(240)
async def test_two_thousand_clients_over_four_workers_buy_exactly_the_hundred_that_there_are(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 3 * CLIENTS)), hard))
    env = {
        "FRESHET_ROOMS__STORE": f"sqlite:///{tmp_path / 'rooms.db'}",
        "FRESHET_TOKENS__ANONYMOUS": "true",
        "FRESHET_LIMITS__CONNECTS_PER_SECOND": "0",
        "FRESHET_LIMITS__SESSIONS_PER_ADDRESS": "0",
        "FRESHET_TIMING__PING_INTERVAL": "300",  # two thousand buyers in one process are too busy to answer in time
    }
    sockets: list[ClientConnection] = []
    with serving("tests.kits.commerce.stock_app:live", "--workers", "4", env=env) as server:
        try:
            buyers = await arriving(server, sockets)
            await asyncio.gather(*(buyer.buy() for buyer in buyers))
            async with httpx.AsyncClient() as http:
                seen = (await http.get(server.http(f"/rooms/{STOCK}"))).json()
        finally:
            await asyncio.gather(*(socket.close() for socket in sockets))
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sum(buyer.bought for buyer in buyers) == ITEMS
    assert (seen["left"], seen["reserved"], seen["sold"]) == (0, 0, ITEMS)
