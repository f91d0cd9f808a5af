"""Several processes behind one port: `freshet serve --workers N`.

The parent binds the port, runs the hub through which the workers share their channels, and starts again what dies. A
worker is `freshet serve` with the same arguments; from its environment it learns what it inherits.
"""

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from freshet.config import Config, Limits, Timing
from freshet.engines.base import Engine
from freshet.engines.local.host_hub import HostHub
from freshet.engines.local.messages import EngineSettings
from freshet.wiring.engines import engine_of

log = logging.getLogger("freshet.workers")

INHERITED = "FRESHET_WORKER"
GRACE = 60.0  # seconds from SIGTERM to SIGKILL: a worker drains its clients at a pace
EARLY = 2.0  # seconds: who ends so soon has not begun
PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before a worker is started again


class Inherited(NamedTuple):
    """What a worker has from its parent.

    port: to listen on. alive: an open file that ends when the parent does. hub: the socket of the hub of this host.
    """

    port: int
    alive: int
    hub: str

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Inherited | None":
        """None: this process is no worker."""
        text = environment.get(INHERITED, "")
        port, _, rest = text.partition(",")
        alive, _, hub = rest.partition(",")
        return cls(int(port), int(alive), hub) if text else None


def reserve(host: str, port: int) -> socket.socket:
    """A port that workers can listen on, and nobody who came before us does. Raises OSError."""
    with _bound(host, port, shared=False) as alone:
        port = alone.getsockname()[1]
    return _bound(host, port, shared=True)


def listening(host: str, port: int, backlog: int) -> socket.socket:
    """One worker's share of the port: the kernel spreads clients over them. Raises OSError."""
    it = _bound(host, port, shared=True)
    it.listen(backlog)
    return it


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    it = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        it.bind((host, port))
    except OSError:
        it.close()
        raise
    return it


def supervise(arguments: Sequence[str], count: int, port: socket.socket) -> int:
    """Run `count` workers until SIGINT or SIGTERM; gives the exit code."""
    return asyncio.run(_Parent(arguments, count, port).run())


def _engine(wanted: EngineSettings) -> Engine:
    timing, limits = Timing(presence_ttl=wanted.presence_time), Limits(log_memory=wanted.log_memory)
    return engine_of(Config(engine=wanted.url, timing=timing, limits=limits))


class _Parent:
    def __init__(self, arguments: Sequence[str], count: int, port: socket.socket) -> None:
        self._command = [sys.executable, "-m", "freshet", "serve", *arguments]
        self._count = count
        self._port = port
        self._code = 0
        self._ending = asyncio.Event()
        self._workers: set[asyncio.subprocess.Process] = set()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._ending.set)
        alive, ours = os.pipe()  # of which the workers hold one end, and hear when the other is closed
        with tempfile.TemporaryDirectory(prefix="freshet-") as folder:
            hub = HostHub(str(Path(folder) / "hub"), _engine)
            await hub.start()
            inherited = Inherited(self._port.getsockname()[1], alive, str(Path(folder) / "hub"))
            one_secret = {"FRESHET_SECRET": secrets.token_hex(32)} if "--dev" in self._command else {}
            environment = {
                **one_secret,
                **os.environ,
                INHERITED: ",".join(map(str, inherited)),
            }
            keeping = [asyncio.create_task(self._keep(inherited, environment)) for _ in range(self._count)]
            await self._ending.wait()
            await self._end(keeping)
            await hub.stop()
        for end in (alive, ours):
            os.close(end)
        return self._code

    async def _keep(self, inherited: Inherited, environment: Mapping[str, str]) -> None:
        """One worker, again and again."""
        loop, pause = asyncio.get_running_loop(), PAUSE
        while not self._ending.is_set():
            began = loop.time()
            worker = await asyncio.create_subprocess_exec(*self._command, env=environment, pass_fds=(inherited.alive,))
            self._workers.add(worker)
            code = await worker.wait()
            self._workers.discard(worker)
            early = loop.time() - began < EARLY
            if self._ending.is_set():
                return
            if early and code > 0:  # what is wrong with the first is wrong with all: it has said what
                self._code = code
                self._ending.set()
                return
            pause = min(2 * pause, LONGEST_PAUSE) if early else PAUSE
            log.error("worker %d exited with %d: another takes its place in %g s", worker.pid, code, pause)
            await asyncio.sleep(pause)

    async def _end(self, keeping: Sequence[asyncio.Task[None]]) -> None:
        for worker in self._workers:
            worker.terminate()
        _, late = await asyncio.wait(keeping, timeout=GRACE)
        for worker in list(self._workers):
            log.error("worker %d did not stop in %g s: it is killed, its clients reconnect", worker.pid, GRACE)
            worker.kill()
        if late:
            await asyncio.wait(late)
