"""The contract of hosts, under two workers of uvicorn."""

import pytest

from tests.contracts.host import *  # noqa: F403 - the contract's tests are this module's
from tests.hosts.hosts import UVICORN_WORKERS, AsgiHost


@pytest.fixture(scope="module")
def host() -> AsgiHost:
    return UVICORN_WORKERS
