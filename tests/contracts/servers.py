"""What two servers on one broker do, as their clients see them.

A test module for such an engine gives the fixture `broker`, of its module, and imports all of this.
"""

from collections.abc import Iterator
from typing import Protocol

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.tools.patience import seconds, wait_until
from tests.tools.serving import Server, serving

Two = tuple[Server, Server]


class Broker(Protocol):
    """One that keeps what it acknowledged when it is killed."""

    @property
    def url(self) -> str: ...
    def kill(self) -> None: ...
    def start(self) -> None: ...


@pytest.fixture(scope="module")
def servers(broker: Broker) -> Iterator[Two]:
    env = {"FRESHET_ENGINE": f"{broker.url}?timeout=1"}
    with serving("--dev", env=env) as one, serving("--dev", env=env) as two:
        yield one, two


def published(server: Server, channel: str, text: str) -> bool:
    """Whether the server took it. With its key, to try again is safe."""
    answer = httpx.post(
        server.http("/api/publish"),
        json={"channel": channel, "data": text, "idempotency_key": text},
        timeout=seconds(10),
    )
    return "result" in answer.json()


def received(client: ClientConnection, number: int) -> list[str]:
    return [str(client.recv(timeout=seconds(10))) for _ in range(number)]


def subscribers(server: Server, channel: str = "a") -> int:
    """Of all nodes, as one of them tells."""
    answer = httpx.post(server.http("/api/channels"), json={}, timeout=seconds(10)).json()
    return int(answer["result"]["channels"].get(channel, {}).get("num_clients", 0))


def test_what_one_publishes_the_clients_of_the_other_hear(servers: Two) -> None:
    one, two = servers
    with connect(one.ws("/channels/a")) as first, connect(two.ws("/channels/a")) as second:
        wait_until(lambda: all(subscribers(server) == 2 for server in servers), 5, "both clients")
        assert published(one, "a", "1")
        assert published(two, "a", "2")
        assert received(first, 2) == received(second, 2) == ['"1"', '"2"']


def test_across_a_restart_of_the_broker_clients_hear_all_that_was_acknowledged_once_and_in_order(
    servers: Two, broker: Broker
) -> None:
    one, two = servers
    with connect(one.ws("/channels/b")) as client:
        wait_until(lambda: subscribers(one, "b") == 1, 5, "the client")
        texts = [str(index) for index in range(40)]
        for index, text in enumerate(texts):
            if index == 20:
                broker.kill()
                assert not published(two, "b", text)
                broker.start()
            wait_until(lambda text=text: published(two, "b", text), 20, "a publication")  # type: ignore[misc]
        assert received(client, 40) == [f'"{text}"' for text in texts]
