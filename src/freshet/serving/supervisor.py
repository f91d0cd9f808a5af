"""Several processes behind one port: `freshet serve --workers N`.

The parent binds the port, runs the hub through which the workers share their channels, and starts again what dies. A
worker is `freshet serve` with the same arguments; from its environment it learns what it inherits. One hub serves about
two workers: where there are more, and they keep their logs in memory, other hubs take their share of the channels, each
in a process of its own.
"""

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import uvloop

from freshet.config import Config, Limits, Timing
from freshet.engines.base import Engine
from freshet.engines.local.host_hub import HostHub
from freshet.engines.local.messages import EngineSettings
from freshet.runtime.server import SERVER, RunningServer
from freshet.runtime.tasks import Tasks
from freshet.serving import hub as hub_process
from freshet.serving.process import Logs, collect_less_often
from freshet.wiring.engines import engine_of

log = logging.getLogger("freshet.workers")

INHERITED = "FRESHET_WORKER"
GRACE = 60.0  # seconds from SIGTERM to SIGKILL: a worker drains its clients at a pace
HUB_GRACE = 5.0  # seconds for a hub to end once nobody needs it
EARLY = 2.0  # seconds: who ends so soon has not begun
MISTAKE = 2  # the exit code for one in the command line or the configuration, however long it took to find it
PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before a worker is started again


class Inherited(NamedTuple):
    """What a worker has from its parent.

    port: to listen on. alive: an open file that ends when the parent does. hubs: the sockets of the hubs of this host.
    """

    port: int
    alive: int
    hubs: tuple[str, ...]

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Inherited | None":
        """None: this process is no worker."""
        text = environment.get(INHERITED)
        return msgspec.json.decode(text, type=cls) if text else None


def announce(inherited: Inherited | None) -> RunningServer:
    """Let what is imported and run from now on know that this server runs it. May be called before `serve`, too."""
    running = SERVER.get()
    if running is None:
        running = RunningServer(inherited.hubs if inherited else ())
        SERVER.set(running)
    return running


def place(host: str, port: int) -> str:
    """Where a server listens, as an URL has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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


def supervise(arguments: Sequence[str], count: int, port: socket.socket, logs: Logs) -> int:
    """Run `count` workers until SIGINT or SIGTERM; gives the exit code."""
    collect_less_often()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Parent(arguments, count, port, logs).run())


def _engine(wanted: EngineSettings) -> Engine:
    if wanted.hubs > 1:
        return hub_process.share_of(wanted)
    timing, limits = Timing(presence_ttl=wanted.presence_time), Limits(log_memory=wanted.log_memory)
    return engine_of(Config(engine=wanted.url, timing=timing, limits=limits))


class _KeptRunning:
    """Processes of one kind, each of which is started again when it ends. fail: called with a code that means all."""

    def __init__(self, kind: str, alive: int, fail: Callable[[int], None]) -> None:
        self._kind = kind
        self._alive = alive
        self._fail = fail
        self._ending = asyncio.Event()
        self._running: set[asyncio.subprocess.Process] = set()
        self._keeping: set[asyncio.Task[None]] = set()
        self._tasks = Tasks()

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._keeping.add(self._tasks.start(self._keep(command, environment), f"{self._kind}s: keep one running"))

    async def _keep(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """One of them, again and again."""
        loop, pause = asyncio.get_running_loop(), PAUSE
        while not self._ending.is_set():
            began = loop.time()
            process = await asyncio.create_subprocess_exec(*command, env=environment, pass_fds=(self._alive,))
            self._running.add(process)
            code = await process.wait()
            self._running.discard(process)
            early = loop.time() - began < EARLY
            if self._ending.is_set():
                return
            # What is wrong with the first is wrong with all: it has said what.
            if code == MISTAKE or (early and code > 0):
                self._fail(code)
                return
            pause = min(2 * pause, LONGEST_PAUSE) if early else PAUSE
            log.error("%s %d exited with %d: another takes its place in %g s", self._kind, process.pid, code, pause)
            await asyncio.sleep(pause)

    def let_end(self) -> None:
        """Who ends from now on is not started again."""
        self._ending.set()

    def terminate(self) -> None:
        for process in self._running:
            process.terminate()

    async def ended(self, grace: float) -> None:
        """Wait until all have, for so many seconds; then kill them."""
        if not self._keeping:
            return
        _, late = await asyncio.wait(self._keeping, timeout=grace)
        for process in list(self._running):
            log.error("%s %d did not stop in %g s: it is killed", self._kind, process.pid, grace)
            process.kill()
        if late:
            await asyncio.wait(late)


class _Parent:
    def __init__(self, arguments: Sequence[str], count: int, port: socket.socket, logs: Logs) -> None:
        self._command = [sys.executable, "-m", "freshet", "serve", *arguments]
        self._count = count
        self._port = port
        self._logs = logs
        self._code = 0
        self._ending = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._ending.set)
        alive, ours = os.pipe()  # of which the others hold one end, and hear when the other is closed
        workers, hubs = (_KeptRunning(kind, alive, self._fail) for kind in ("worker", "hub"))
        with tempfile.TemporaryDirectory(prefix="freshet-") as folder:
            paths = tuple(str(Path(folder) / f"hub-{number}") for number in range(max(1, self._count // 2)))
            hub = HostHub(paths[0], partial(self._begin, hubs, paths, alive))
            await hub.start()
            inherited = Inherited(self._port.getsockname()[1], alive, paths)
            one_secret = {"FRESHET_SECRET": secrets.token_hex(32)} if "--dev" in self._command else {}
            environment = {**one_secret, **os.environ, INHERITED: msgspec.json.encode(inherited).decode()}
            for _ in range(self._count):
                workers.start(self._command, environment)
            await self._ending.wait()
            for each in (workers, hubs):
                each.let_end()
            workers.terminate()
            await workers.ended(GRACE)
            os.close(ours)
            await hubs.ended(HUB_GRACE)
            await hub.stop()
        os.close(alive)
        return self._code

    def _begin(self, hubs: _KeptRunning, paths: Sequence[str], alive: int, wanted: EngineSettings) -> Engine:
        """The engine of the first hub. The first worker has come, and says whether the others have a share."""
        for path in paths[1 : wanted.hubs]:
            command = [sys.executable, "-m", hub_process.__name__, path, str(alive), *self._logs]
            hubs.start(command, dict(os.environ))
        return _engine(wanted)

    def _fail(self, code: int) -> None:
        self._code = code
        self._ending.set()
