"""Which of the workers that share a port has which number, from 0 on: a file for each, locked by who has it.

The lock ends with its process, however that ends, and the next worker takes the number.
"""

import os
import sys
from pathlib import Path

if sys.platform != "win32":  # where no port is shared
    import fcntl

MOST = 1024
NAME = 64  # bytes of a node's name


class WorkerPlaces:
    """folder: of the workers of one host."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: int | None = None  # the open file

    def take(self, node: str) -> None:
        """The first that nobody has. Raises OSError."""
        for place in range(MOST):
            file = os.open(self._path(place), os.O_RDWR | os.O_CREAT, 0o600)
            if _lock(file):
                os.ftruncate(file, 0)
                os.write(file, node.encode())
                self._taken = file
                return
            os.close(file)

    def leave(self) -> None:
        if self._taken is not None:
            os.close(self._taken)
            self._taken = None

    def read(self) -> list[str]:
        """The nodes by their places; "": one that the next worker takes."""
        nodes = []
        for place in range(MOST):
            try:
                file = os.open(self._path(place), os.O_RDWR)
            except OSError:
                break
            try:
                # A lock that this is given is given back at once: a worker that comes just then takes a later place.
                nodes.append("" if _lock(file) else os.read(file, NAME).decode(errors="replace"))
            finally:
                os.close(file)
        return nodes

    def _path(self, place: int) -> Path:
        return self._folder / f"worker-{place}"


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
