"""The contract of hosts, under hypercorn, as a process of its own."""

import pytest

from tests.contracts.host import *  # noqa: F403 - the contract's tests are this module's
from tests.hosts.hosts import HYPERCORN_ALONE, AsgiHost


@pytest.fixture(scope="module")
def host() -> AsgiHost:
    return HYPERCORN_ALONE
