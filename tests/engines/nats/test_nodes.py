"""Two servers on one NATS, as their clients see them."""

from collections.abc import Iterator

import pytest

from tests.contracts.servers import *  # noqa: F403 - the contract's tests are this module's
from tests.tools.nats import Nats, nats
from tests.tools.serving import HOST, free_port, serving


@pytest.fixture(scope="module")
def broker() -> Iterator[Nats]:
    with nats() as it:
        yield it


def test_a_server_that_does_not_reach_its_nats_ends_and_says_why() -> None:
    port = free_port()
    with (
        pytest.raises(RuntimeError, match=f"NATS cannot be reached: {HOST}:{port}") as error,
        serving("--dev", env={"FRESHET_ENGINE": f"nats://me:hidden@{HOST}:{port}"}),
    ):
        pass
    assert "hidden" not in str(error.value)
