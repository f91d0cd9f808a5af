"""Workers of one server, of which each would have an engine of its own: `uvicorn --workers 2` with `memory://`.

What is published in one would never reach the clients of another, and nobody would be told. So the first has the
engine, and the others do not start. `freshet serve --workers` needs none of this: its workers share one engine.
"""

import asyncio
import logging
import multiprocessing
import os
import tempfile
from pathlib import Path

from freshet.errors import ConfigError

log = logging.getLogger("freshet")

PATIENCE = 10.0  # seconds: in a reload, the old worker ends after the new one has begun
AGAIN = 0.2  # seconds between two looks at whether it has
REFUSED = (
    "memory and SQLite engines belong to one process, and another worker of this server has it, so that worker %d does "
    "not start. Run one worker, or `freshet serve MODULE:APP --workers N`, or set an engine that workers share, "
    "redis:// or nats://"
)

_held: list[int] = []  # the lock's file, for as long as this process lives


def lock_path() -> Path | None:
    """What workers of the same server have in common; None: this process is nobody's worker."""
    if multiprocessing.parent_process() is None and not os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn"):
        return None
    return Path(tempfile.gettempdir()) / f"freshet-{os.getuid()}-{os.getppid()}.lock"


async def be_the_only_one() -> None:
    """Come back when no other worker of the same server has an engine; none will until this process ends.

    Raises ConfigError when another one goes on to have it.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE
    while not _is_free():
        if loop.time() > until:
            log.error("engine: %s", text := REFUSED % os.getpid())  # not every server says why one did not start
            raise ConfigError("engine", text)
        await asyncio.sleep(AGAIN)


def _is_free() -> bool:
    path = lock_path()
    if _held or path is None:
        return True
    import fcntl  # noqa: PLC0415 - which Windows has not, where there is no fork either

    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    _held.append(file)
    return True
