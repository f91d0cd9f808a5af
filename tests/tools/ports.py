"""Ports for the servers that tests start: no two test processes on one machine are given the same.

A port that was free a moment ago may be taken a moment later, by a connection or by another test process. So each
process leases a block of ports for as long as it lives, below those that the kernel gives to connections, and gives
each port of it in turn. The lease is the first port of the block, which stays bound.
"""

import os
import re
import socket
from contextlib import suppress
from functools import cache
from itertools import cycle

HOST = "127.0.0.1"
FIRST, END = 12_000, 32_000  # Linux gives connections ports from 32,768 on, other systems higher ones
SIZE = 500  # ports of a block, with the one that is the lease


class PortBlock:
    """Consecutive ports that this process may use.

    preferred: the number of the block to lease; the next one that nobody has leased is taken instead of it.

    Raises RuntimeError if every block is leased.
    """

    def __init__(self, preferred: int = 0) -> None:
        number = (END - FIRST) // SIZE
        for index in range(number):
            first = FIRST + (preferred + index) % number * SIZE
            if (lease := _bound(first)) is not None:
                break
        else:
            raise RuntimeError(f"other processes have leased all {number} blocks of ports from {FIRST} to {END - 1}")
        self._lease = lease
        self.ports = range(first + 1, first + SIZE)
        self._turn = cycle(self.ports)

    def take(self) -> int:
        """The next port that nothing listens on; after the last one the first comes again.

        Raises RuntimeError if something listens on each of them.
        """
        for _ in self.ports:
            port = next(self._turn)
            if (probe := _bound(port)) is not None:
                probe.close()
                return port
        raise RuntimeError(f"every port from {self.ports[0]} to {self.ports[-1]} is in use")

    def close(self) -> None:
        """Give the block back."""
        self._lease.close()


def preferred_block(worker: str) -> int:
    """Which block a worker of pytest-xdist, such as `gw1`, tries to lease first. worker: "" without xdist."""
    found = re.search(r"\d+$", worker)
    return int(found[0]) + 1 if found else 0


def free_port() -> int:
    """A loopback port that no server has, and that no other test process is given."""
    return _own_block().take()


@cache
def _own_block() -> PortBlock:
    return PortBlock(preferred_block(os.environ.get("PYTEST_XDIST_WORKER", "")))


def _bound(port: int) -> socket.socket | None:
    probe = socket.socket()
    with suppress(OSError):
        probe.bind((HOST, port))
        return probe
    probe.close()
    return None
