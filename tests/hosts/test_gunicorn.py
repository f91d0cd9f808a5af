"""The contract of hosts, under gunicorn, with workers of uvicorn."""

import pytest

from tests.contracts.host import *  # noqa: F403 - the contract's tests are this module's
from tests.hosts.hosts import GUNICORN, AsgiHost


@pytest.fixture(scope="module")
def host() -> AsgiHost:
    return GUNICORN
