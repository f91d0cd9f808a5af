"""The contract of transports, over WebSocket: our own shell, by both ways in, and that of any ASGI server."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect

from tests.contracts.transport import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.transport import Dial, Link
from tests.tools.serving import HOST, Server
from tests.transports.shells import SHELLS, WebSocketLink, shell


@pytest.fixture(scope="module", params=[*((name, "live") for name in SHELLS), ("freshet", "around")], ids=" ".join)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    name, app = request.param
    with shell(name, f"tests.transports.application:{app}", tmp_path_factory.mktemp(name)) as server:
        yield server


@pytest.fixture
def dial() -> Dial:
    @asynccontextmanager
    async def open_link(server: Server) -> AsyncIterator[Link]:
        # One message waits in the library, and few bytes in the kernel: who does not receive does not read.
        with socket.create_connection((HOST, server.port)) as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            url = server.ws("/connection/websocket")
            async with connect(url, sock=plain, max_queue=1, compression=None, ping_interval=None) as connection:
                yield WebSocketLink(connection)

    return open_link
