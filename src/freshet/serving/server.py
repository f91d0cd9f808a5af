"""Listening: uvicorn on uvloop, with the native WebSocket side."""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from freshet.runtime.server import SERVER, RunningServer
from freshet.serving.supervisor import Inherited, listening
from freshet.transports.hosting import HostedWebSocket
from freshet.transports.http import BoundedHttp
from freshet.transports.lobby import Lobby

log = logging.getLogger("freshet.workers")

BACKLOG = 2048


def serve(
    app: ASGIApp | str,
    host: str,
    port: int,
    *,
    log_level: str = "info",
    inherited: Inherited | None = None,
    started: Callable[[str], None] = lambda place: None,
) -> None:
    """Serve any ASGI application until SIGINT or SIGTERM.

    app: the application, or `module:name` to import it. inherited: what a worker has from its parent. started: called
    with its place, once clients can connect there, but by no worker: of the port 0 nobody knows it before.
    """
    _open_files_limit()
    log_to_stderr(log_level)
    running = announce(inherited)
    lobby = Lobby(lambda: len(server.server_state.connections))
    running.is_full = lambda: lobby.full
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="asyncio" if sys.platform == "win32" else "uvloop",
        http=cast(Any, partial(BoundedHttp, lobby=lobby, server=running)),  # called as its classes are
        ws=cast(Any, partial(HostedWebSocket, lobby=lobby)),
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    _collect_less_often()
    # uvicorn stops gracefully on these and then raises them again; to be asked to end is no failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    server = _Server(config, inherited, running, started)
    server.run([listening(host, inherited.port, BACKLOG)] if inherited else None)


def place(host: str, port: int) -> str:
    """Where a server listens, as an URL has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def announce(inherited: Inherited | None) -> RunningServer:
    """Let what is imported and run from now on know that this server runs it. May be called before `serve`, too."""
    running = SERVER.get()
    if running is None:
        running = RunningServer(inherited.hub if inherited else "")
        SERVER.set(running)
    return running


class _Server(uvicorn.Server):
    """Lets all nodes drain before it waits for the end of all requests: streams never end else."""

    def __init__(
        self,
        config: uvicorn.Config,
        inherited: Inherited | None,
        running: RunningServer,
        on_started: Callable[[str], None],
    ) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._inherited = inherited
        self._running = running

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._inherited is not None:
            asyncio.get_running_loop().add_reader(self._inherited.alive, self._orphaned, self._inherited.alive)
        elif self.started:
            self._on_started(place(self.config.host, self.servers[0].sockets[0].getsockname()[1]))

    def _orphaned(self, alive: int) -> None:
        """The parent is gone, and with it the hub: what is left is to end in order, once."""
        asyncio.get_running_loop().remove_reader(alive)
        log.error("workers: the parent process is gone, worker %d ends: start `freshet serve` again", os.getpid())
        os.kill(os.getpid(), signal.SIGTERM)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()  # nobody new comes
        draining = {asyncio.ensure_future(drain()) for drain in self._running.drains}
        while draining and not self.force_exit:  # which a second signal asks for
            _, draining = await asyncio.wait(draining, timeout=0.1)
        await super().shutdown(sockets)


def _collect_less_often() -> None:
    """Thousands of clients are thousands of live objects, which a collection walks through in vain.

    What was imported is never garbage; and a collection is due after many allocations, not after Python's 700.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _open_files_limit() -> None:
    """Every client is an open file: ask for as many as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def log_to_stderr(level: str) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("freshet").setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel("WARNING" if level == "info" else level.upper())
