"""The contract of transports, over WebSocket and TLS. The server API is asked at a port of its own, in the clear."""

import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.contracts.transport import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.transport import Dial, Link
from tests.tools.certificates import certify
from tests.tools.patience import seconds
from tests.tools.ports import free_port
from tests.tools.serving import HOST, Server, serving
from tests.transports.shells import WebSocketLink

CONFIG = f"""
[tokens]
anonymous = true
[api]
anonymous = true
[rates]
channel = {{ rate = 0.001, burst = 1200 }}
[timing]
ping_interval = {seconds(2)}
pong_timeout = {seconds(1)}
close_timeout = {seconds(60)}  # which nobody waits for
[[channels]]
match = "log:*"
history = {{ size = 2000, ttl = 60 }}
presence = true
publish = "client"
[[channels]]
match = "flood"
"""


class TwoPorts(Server):
    """port: of its clients. internal: of the rest."""

    internal = 0

    def http(self, path: str = "/") -> str:
        return f"http://{HOST}:{self.internal}{path}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    certificate, key = certify(folder)
    config, internal = folder / "freshet.toml", free_port()
    config.write_text(CONFIG)
    files = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with serving("--config", str(config), *files, env={"FRESHET_INTERNAL__PORT": str(internal)}) as running:
        server = TwoPorts(running.process, HOST, running.port, running._output, secure=True)
        server.internal = internal
        yield server


@pytest.fixture
def dial(folder: Path) -> Dial:
    trust = ssl.create_default_context(cafile=str(folder / "cert.pem"))

    @asynccontextmanager
    async def open_link(server: Server) -> AsyncIterator[Link]:
        with socket.create_connection((HOST, server.port)) as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            options = {"max_queue": 1, "compression": None, "ping_interval": None}
            url = server.ws("/connection/websocket")
            async with connect(url, sock=plain, ssl=trust, server_hostname=HOST, **options) as connection:
                yield WebSocketLink(connection)

    return open_link
