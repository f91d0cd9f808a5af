"""What one more client that is quiet holds in this process, so that it does not grow unnoticed."""

import asyncio
import gc
import tracemalloc
from typing import Any

from freshet import Freshet
from freshet.config import parse
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.model.frame import Handshake
from freshet.transports.native import SessionSocket
from tests.tools.clients import SECRET, token
from tests.tools.patience import eventually
from tests.websocket.peer import masked

CLIENTS = 1000
FIRST = 200  # who come before it is measured: what is made once is made for them
BOUND = 1300  # bytes; about 1,200 are held, and what the event loop holds of a socket is not among them


class Quiet:
    """The transport of all of them: nothing of it is counted."""

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return 0

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: None


async def come(live: Freshet, number: int, transport: Quiet, connections: set[asyncio.Protocol]) -> None:
    """A client connects with a token and subscribes to a channel."""
    session = live._dispatcher.open(Centrifuge(), Handshake("/connection/websocket"))
    socket = SessionSocket(session, transport, connections, False)  # type: ignore[arg-type]
    shown = token(f"user-{number}").encode()
    lines = b'{"id":1,"connect":{"token":"%b"}}\n{"id":2,"subscribe":{"channel":"news"}}' % shown
    socket.data_received(masked(1, lines))
    await eventually(lambda: "news" in session.subscriptions)


async def test_a_client_that_is_quiet_holds_little_memory() -> None:
    slow = parse(
        {"timing": {"ping_interval": 3600, "pong_timeout": 600, "connect_timeout": 600}}
    )  # as a busy machine is
    live = Freshet(config=slow, secret=SECRET, environment={})
    live.channel("news", subscribe="client")
    transport, connections = Quiet(), set[asyncio.Protocol]()
    async with live.lifespan():
        for number in range(FIRST):
            await come(live, number, transport, connections)
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(FIRST, FIRST + CLIENTS):
                await come(live, number, transport, connections)
            await asyncio.sleep(0)
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(live._node.registry) == FIRST + CLIENTS
    assert held / CLIENTS < BOUND
