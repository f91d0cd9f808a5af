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

    What was imported is never garbage; and a collection is due after many allocations, not after Python's 700.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def log_to_stderr(level: str, form: LogFormat = "console") -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(form))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("freshet").setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel("WARNING" if level == "info" else level.upper())
