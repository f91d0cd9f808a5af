"""A hub of its own process: it has a share of the channels of a host whose workers keep the logs in memory.

    python -m freshet.serving.hub PATH ALIVE LEVEL FORMAT

PATH: of its socket. ALIVE: an open file that ends when the parent lets go of it: no signal that a terminal or a service
manager sends to all processes ends a hub before the workers have drained. LEVEL, FORMAT: of its log.
"""

import asyncio
import signal
import sys
from typing import cast

import uvloop

from freshet.engines.local.host_hub import HostHub
from freshet.engines.local.messages import EngineSettings
from freshet.engines.memory import MemoryEngine
from freshet.observe.logs import LogFormat
from freshet.serving.process import collect_less_often, log_to_stderr


def share_of(wanted: EngineSettings) -> MemoryEngine:
    """The engine of one of several hubs."""
    return MemoryEngine(wanted.presence_time, log_memory=wanted.log_memory, shares=wanted.hubs)


async def run(path: str, alive: int) -> None:
    hub = HostHub(path, share_of)
    await hub.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(alive, ended.set)
    await ended.wait()
    await hub.stop()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _, path, alive, level, form = sys.argv
    log_to_stderr(level, cast(LogFormat, form))
    collect_less_often()
    uvloop.run(run(path, int(alive)))
