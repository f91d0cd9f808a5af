"""What each process of a server does as it begins: the server itself, the parent of workers, and hubs."""

import gc
import logging
import sys
from typing import NamedTuple

from freshet.observe.logs import LogFormat, formatter


class Logs(NamedTuple):
    """What a process logs, and how."""

    level: str
    format: LogFormat


def collect_less_often() -> None:
    """Thousands of clients are thousands of live objects, which a collection walks through in vain.

    What was imported is never garbage; and what is old is looked at after many allocations, not after Python's 70,000.
    What is young is looked at often, so that it takes a fraction of a millisecond, for which all clients wait.
    """
    gc.freeze()
    gc.set_threshold(2_000, 200, 20)


def log_to_stderr(level: str, form: LogFormat = "console") -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(form))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("freshet").setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel("WARNING" if level == "info" else level.upper())
