"""Two servers on one Redis, as their clients see them."""

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.tools.patience import seconds, wait_until
from tests.tools.redis import Redis, redis
from tests.tools.serving import HOST, Server, free_port, serving

Two = tuple[Server, Server]


@pytest.fixture(scope="module")
def broker() -> Iterator[Redis]:
    with redis("--appendonly", "yes", "--appendfsync", "always") as it:
        yield it


@pytest.fixture(scope="module")
def servers(broker: Redis) -> Iterator[Two]:
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


def heard(client: ClientConnection, number: int) -> list[str]:
    return [str(client.recv(timeout=seconds(10))) for _ in range(number)]


def test_what_one_publishes_the_clients_of_the_other_hear(servers: Two) -> None:
    one, two = servers
    with connect(one.ws("/channels/a")) as first, connect(two.ws("/channels/a")) as second:
        wait_until(lambda: all(subscribers(server) == 1 for server in servers), 5, "both clients")
        assert published(one, "a", "1")
        assert published(two, "a", "2")
        assert heard(first, 2) == heard(second, 2) == ['"1"', '"2"']


def test_across_a_restart_of_redis_clients_hear_all_that_was_acknowledged_once_and_in_order(
    servers: Two, broker: Redis
) -> None:
    one, two = servers
    with connect(one.ws("/channels/b")) as client:
        wait_until(lambda: subscribers(one, "b") == 1, 5, "the client")
        texts = [str(index) for index in range(60)]
        for index, text in enumerate(texts):
            if index == 20:
                broker.kill()
                assert not published(two, "b", text)
                broker.start()
            if index == 40:
                broker.cli("CLIENT", "KILL", "TYPE", "pubsub")
            wait_until(lambda text=text: published(two, "b", text), 20, "a publication")
        assert heard(client, 60) == [f'"{text}"' for text in texts]


def subscribers(server: Server, channel: str = "a") -> int:
    answer = httpx.post(server.http("/api/channels"), json={}, timeout=seconds(10)).json()
    return int(answer["result"]["channels"].get(channel, {}).get("num_clients", 0))


def test_the_workers_of_a_host_meet_in_redis_too(servers: Two, broker: Redis) -> None:
    one, _ = servers
    with serving("--dev", "--workers", "2", env={"FRESHET_ENGINE": broker.url}) as host, ExitStack() as stack:
        clients: list[ClientConnection] = []
        topic = "freshet:{c}:flow"

        def both_listen() -> bool:
            # At whichever worker takes it; the last may subscribe after the publication.
            clients.append(stack.enter_context(connect(host.ws("/channels/c?since=oldest"))))
            return broker.cli("PUBSUB", "NUMSUB", topic).split() == [topic, "2"]

        wait_until(both_listen, 15, "both workers")
        assert published(one, "c", "1")
        assert all(heard(client, 1) == ['"1"'] for client in clients)


def test_a_server_that_does_not_reach_its_redis_ends_and_says_why() -> None:
    port = free_port()
    with (
        pytest.raises(RuntimeError, match=f"Redis cannot be reached: {HOST}:{port}") as error,
        serving("--dev", env={"FRESHET_ENGINE": f"redis://:hidden@{HOST}:{port}"}),
    ):
        pass
    assert "hidden" not in str(error.value)
