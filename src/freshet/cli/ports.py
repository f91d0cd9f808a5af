"""A port is free, or the command ends and says which one is, before anything else is said."""

import errno
import socket
from contextlib import suppress

from freshet.cli.console import fail
from freshet.serving.supervisor import place, reserve


def must_be_free(host: str, port: int) -> None:
    """Port 0 always is."""
    if port:
        reserved(host, port).close()


def reserved(host: str, port: int) -> socket.socket:
    """The port, for several workers."""
    try:
        return reserve(host, port)
    except OSError as error:
        if isinstance(error, socket.gaierror):
            where = "--host takes a name or an address of this machine, without a port: 127.0.0.1, or 0.0.0.0 for all."
            fail(f"cannot listen on {host}: {error.strerror}", where, code=1)
        free = _next_free(host, port)
        other = f"--port {free} is free." if free else "Choose another one with --port."
        hint = f"Another server may be running there. {other}" if error.errno == errno.EADDRINUSE else other
        fail(f"cannot listen on {place(host, port)}: {error.strerror}", hint, code=1)


def _next_free(host: str, port: int) -> int:
    """Of the twenty behind it; 0: none."""
    for candidate in range(port + 1, min(port + 21, 65536)):
        with suppress(OSError):
            reserve(host, candidate).close()
            return candidate
    return 0
