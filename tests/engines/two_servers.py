"""Two servers on one broker, as their clients see them: what the tests of brokers ask of both."""

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.tools.patience import seconds, wait_until
from tests.tools.serving import Server

Two = tuple[Server, Server]


def published(server: Server, channel: str, text: str) -> bool:
    """Whether the server took it. With its key, to try again is safe."""
    answer = httpx.post(
        server.http("/api/publish"),
        json={"channel": channel, "data": text, "idempotency_key": text},
        timeout=seconds(10),
    )
    return "result" in answer.json()


def heard(client: ClientConnection, number: int) -> list[str]:
    return [str(client.recv(timeout=seconds(10))) for _ in range(number)]


def subscribers(server: Server, channel: str = "a") -> int:
    answer = httpx.post(server.http("/api/channels"), json={}, timeout=seconds(10)).json()
    return int(answer["result"]["channels"].get(channel, {}).get("num_clients", 0))


def they_hear_each_other(servers: Two) -> None:
    one, two = servers
    with connect(one.ws("/channels/a")) as first, connect(two.ws("/channels/a")) as second:
        wait_until(lambda: all(subscribers(server) == 1 for server in servers), 5, "both clients")
        assert published(one, "a", "1")
        assert published(two, "a", "2")
        assert heard(first, 2) == heard(second, 2) == ['"1"', '"2"']
