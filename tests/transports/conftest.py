"""The two ways that a request may take into the same application, for tests that they do not differ."""

from collections.abc import Iterator

import pytest

from tests.tools.serving import Server
from tests.transports.shells import shell

APP = "tests.transports.application"


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """The application served itself, so that requests go the short way, and behind another one, the long way."""
    with (
        shell("freshet", f"{APP}:live", tmp_path_factory.mktemp("short")) as short,
        shell("freshet", f"{APP}:around", tmp_path_factory.mktemp("long")) as long,
    ):
        yield short, long
