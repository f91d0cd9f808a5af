"""Two servers on one Redis, as their clients see them."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.contracts.servers import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.servers import Two, published, received, subscribers
from tests.tools.patience import wait_until
from tests.tools.redis import Redis, redis
from tests.tools.serving import HOST, free_port, serving


@pytest.fixture(scope="module")
def broker() -> Iterator[Redis]:
    with redis("--appendonly", "yes", "--appendfsync", "always") as it:
        yield it


def test_across_a_cut_of_the_topics_line_clients_hear_all(servers: Two, broker: Redis) -> None:
    one, two = servers
    with connect(one.ws("/channels/d")) as client:
        wait_until(lambda: subscribers(one, "d") == 1, 5, "the client")
        for index in range(40):
            if index == 20:
                broker.cli("CLIENT", "KILL", "TYPE", "pubsub")
            assert published(two, "d", str(index))
        assert received(client, 40) == [f'"{index}"' for index in range(40)]


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
        assert all(received(client, 1) == ['"1"'] for client in clients)


def test_a_server_that_does_not_reach_its_redis_ends_and_says_why() -> None:
    port = free_port()
    with (
        pytest.raises(RuntimeError, match=f"Redis cannot be reached: {HOST}:{port}") as error,
        serving("--dev", env={"FRESHET_ENGINE": f"redis://:hidden@{HOST}:{port}"}),
    ):
        pass
    assert "hidden" not in str(error.value)
