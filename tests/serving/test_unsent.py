"""How much of what a client does not read the kernel holds: it has one memory for all connections of the machine."""

import socket
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

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


def unsent(server: int, client: int) -> int:
    """Bytes that the server's side of a connection has in the kernel."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if (int(local[-4:], 16), int(remote[-4:], 16)) == (server, client):
            return int(queues.partition(":")[0], 16)
    raise AssertionError("no such connection")


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
                for number in range(MESSAGES):
                    data = f"{number} ".ljust(SIZE, "x")
                    assert http.post("/api/publish", json={"channel": "news", "data": data}).status_code == 200
            held = wait_until(lambda: unsent(server.port, port), 5, "what is held")
            assert held <= UNSENT + 2 * SEGMENT
            for number in range(MESSAGES):
                assert str(client.recv(10)).startswith(f'"{number} ')
