"""How much of what a client does not read the kernel holds: it has one memory for all connections of the machine."""

import socket
from contextlib import suppress
from itertools import repeat
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from freshet.serving.server import UNSENT
from tests.tools.patience import wait_until
from tests.tools.serving import serving

CONFIG = """
tokens = { anonymous = true }
api = { anonymous = true }
limits = { outbox = 16_000_000 }
[[channels]]
match = "*"
"""
SEGMENT = 64 * 1024  # which is taken whole
MESSAGES, SIZE = 400, 10_000
BEGIN = '"begin"'


def unsent(server: int, client: int) -> int:
    """Bytes that the server's side of a connection has in the kernel."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if (int(local[-4:], 16), int(remote[-4:], 16)) == (server, client):
            return int(queues.partition(":")[0], 16)
    raise AssertionError("no such connection")


def publish(http: httpx.Client, data: str) -> None:
    http.post("/api/publish", json={"channel": "news", "data": data}).raise_for_status()


def begin(http: httpx.Client, client: ClientConnection) -> None:
    """It is subscribed when it gets the first, which is later than it is connected where there are several workers."""
    for _ in range(100):
        publish(http, "begin")
        with suppress(TimeoutError):
            assert client.recv(0.1) == BEGIN
            return
    raise AssertionError("nothing comes")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_kernel_holds_little_for_who_does_not_read_and_all_of_it_comes(tmp_path: Path, workers: str) -> None:
    (tmp_path / "freshet.toml").write_text(CONFIG)
    with serving("--config", str(tmp_path / "freshet.toml"), "--workers", workers) as server:
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.connect((server.host, server.port))
        port = small.getsockname()[1]
        with connect(server.ws("/channels/news"), sock=small, compression=None, max_queue=1) as client:
            with httpx.Client(base_url=server.http("")) as http:
                begin(http, client)
                for number in range(MESSAGES):
                    publish(http, f"{number} ".ljust(SIZE, "x"))
            held = wait_until(lambda: unsent(server.port, port), 5, "what is held")
            assert held <= UNSENT + 2 * SEGMENT
            got = (str(client.recv(10)) for _ in repeat(None))
            for number in range(MESSAGES):
                assert next(text for text in got if text != BEGIN).split()[0] == f'"{number}'
