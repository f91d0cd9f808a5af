"""The contract of hosts, under hypercorn, which begins with a worker."""

import pytest

from tests.contracts.host import *  # noqa: F403 - the contract's tests are this module's
from tests.hosts.hosts import HYPERCORN, AsgiHost


@pytest.fixture(scope="module")
def host() -> AsgiHost:
    return HYPERCORN
