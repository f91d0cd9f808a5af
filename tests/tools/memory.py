"""What a server's process holds, as the kernel counts it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.tools.patience import wait_until
from tests.tools.serving import Server

KIB = 1024
MIB = 1024 * KIB


def resident(server: Server) -> int:
    """Bytes."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * KIB


@contextmanager
def grows_by_less_than(server: Server, most: int) -> Iterator[None]:
    """Hold that the block leaves the server larger by less than `most` bytes, once what it still lets go is gone."""
    before = resident(server)
    yield
    with suppress(TimeoutError):
        wait_until(lambda: resident(server) - before < most, 5)
    grown = resident(server) - before
    assert grown < most, f"it grew by {grown / MIB:.1f} MiB"
