"""The contract of hosts, under daphne."""

import pytest

from tests.contracts.host import *  # noqa: F403 - the contract's tests are this module's
from tests.hosts.hosts import DAPHNE, AsgiHost


@pytest.fixture(scope="module")
def host() -> AsgiHost:
    return DAPHNE
