"""The contract of hosts, under our own server."""

import pytest

from tests.contracts.host import *  # noqa: F403 - the contract's tests are this module's
from tests.hosts.hosts import FRESHET, AsgiHost


@pytest.fixture(scope="module")
def host() -> AsgiHost:
    return FRESHET
