"""Two servers on one Redis, as their clients see them."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.engines.two_servers import Two, heard, published, subscribers, they_hear_each_other
from tests.tools.patience import wait_until
from tests.tools.redis import Redis, redis
from tests.tools.serving import HOST, free_port, serving


@pytest.fixture(scope="module")
def broker() -> Iterator[Redis]:
    with redis("--appendonly", "yes", "--appendfsync", "always") as it:
        yield it


@pytest.fixture(scope="module")
def servers(broker: Redis) -> Iterator[Two]:
    env = {"FRESHET_ENGINE": f"{broker.url}?timeout=1"}
    with serving("--dev", env=env) as one, serving("--dev", env=env) as two:
        yield one, two


def test_what_one_publishes_the_clients_of_the_other_hear(servers: Two) -> None:
    they_hear_each_other(servers)


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
