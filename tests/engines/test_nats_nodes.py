"""Two servers on one NATS, as their clients see them."""

from collections.abc import Iterator

import pytest
from websockets.sync.client import connect

from tests.engines.two_servers import Two, heard, published, subscribers, they_hear_each_other
from tests.tools.nats import Nats, nats
from tests.tools.patience import wait_until
from tests.tools.serving import HOST, free_port, serving


@pytest.fixture(scope="module")
def broker() -> Iterator[Nats]:
    with nats() as it:
        yield it


@pytest.fixture(scope="module")
def servers(broker: Nats) -> Iterator[Two]:
    env = {"FRESHET_ENGINE": f"{broker.url}?timeout=1"}
    with serving("--dev", env=env) as one, serving("--dev", env=env) as two:
        yield one, two


def test_what_one_publishes_the_clients_of_the_other_hear(servers: Two) -> None:
    they_hear_each_other(servers)


def test_across_a_restart_of_nats_clients_hear_all_that_was_acknowledged_once_and_in_order(
    servers: Two, broker: Nats
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
            wait_until(lambda text=text: published(two, "b", text), 20, "a publication")
        assert heard(client, 40) == [f'"{text}"' for text in texts]


def test_a_server_that_does_not_reach_its_nats_ends_and_says_why() -> None:
    port = free_port()
    with (
        pytest.raises(RuntimeError, match=f"NATS cannot be reached: {HOST}:{port}") as error,
        serving("--dev", env={"FRESHET_ENGINE": f"nats://me:hidden@{HOST}:{port}"}),
    ):
        pass
    assert "hidden" not in str(error.value)
