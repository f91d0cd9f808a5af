"""Listening: uvicorn on uvloop, with the native WebSocket side, in the clear or over TLS, in one place or in two."""

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from freshet.errors import ConfigError
from freshet.observe.logs import LogFormat
from freshet.runtime.server import RunningServer
from freshet.runtime.tasks import Tasks
from freshet.serving.process import collect_less_often, log_to_stderr
from freshet.serving.supervisor import Inherited, announce, listening, place
from freshet.transports.entrance import Entrance
from freshet.transports.hosting import HostedWebSocket
from freshet.transports.http import BoundedHttp
from freshet.transports.lobby import Lobby
from freshet.transports.tls import Certificates, TlsHandshake

log = logging.getLogger("freshet.serving")

BACKLOG = 2048
UNSENT = 128 * 1024
"""Bytes that the kernel takes for a client and cannot send yet. What is beyond waits in the outbox, where it counts,
and is one for all. Two thousand who do not read would fill the kernel's buffers, which everybody's connections need."""
FAILED = 3  # the exit code of a server that could not start, as uvicorn has it


def serve(
    app: ASGIApp | str,
    host: str,
    port: int,
    *,
    log_level: str = "info",
    log_format: LogFormat = "console",
    inherited: Inherited | None = None,
    started: Callable[[str], None] = lambda place: None,
) -> None:
    """Serve any ASGI application until SIGINT or SIGTERM.

    app: the application, or `module:name` to import it. inherited: what a worker has from its parent. started: called
    with its place, once clients can connect there, but by no worker: of the port 0 nobody knows it before.
    """
    _open_files_limit()
    log_to_stderr(log_level, log_format)
    running = announce(inherited)
    lobby = Lobby(lambda: len(server.server_state.connections))
    running.is_full = lambda: lobby.full
    running.app = app
    config = _configured(app, lobby, running, host=host, port=port)
    collect_less_often()
    # uvicorn stops gracefully on these and then raises them again; to be asked to end is no failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    server = _Server(config, inherited, running, lobby, started)
    server.run()


def _configured(app: ASGIApp | str, lobby: Lobby, running: RunningServer, **options: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio" if sys.platform == "win32" else "uvloop",
        http=cast(Any, partial(BoundedHttp, lobby=lobby, server=running)),  # called as its classes are
        **{"ws": cast(Any, partial(HostedWebSocket, lobby=lobby)), **options},
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )


class _Server(uvicorn.Server):
    """Listens where the application wants it to, and lets all nodes drain before it waits for the end of all requests:
    streams never end else."""

    def __init__(
        self,
        config: uvicorn.Config,
        inherited: Inherited | None,
        running: RunningServer,
        lobby: Lobby,
        on_started: Callable[[str], None],
    ) -> None:
        super().__init__(config)
        self.servers: list[asyncio.base_events.Server] = []
        self._on_started = on_started
        self._inherited = inherited
        self._running = running
        self._lobby = lobby
        self._handshakes = Tasks()
        self._certificates: Certificates | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """In the place of uvicorn's own, which has one listener, and no deadline for handshakes."""
        try:
            self._certificates = self._read_certificates()
        except ConfigError as error:
            log.error("cannot start: %s", error)
            sys.exit(FAILED)
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(FAILED)
        port = self._inherited.port if self._inherited else self.config.port
        try:
            if (internal := self._running.internal) is not None:
                config = _configured(internal.app, self._lobby, self._running, lifespan="off", interface="asgi3")
                config.load()
                certificates = self._certificates if internal.tls else None
                await self._listen(config, internal.host, internal.port, certificates)
                log.info("/api, /metrics and /admin are at %s, and nowhere else", place(internal.host, internal.port))
            await self._listen(self.config, self.config.host, port, self._certificates)
        except OSError as error:
            log.error("cannot listen: %s", error)
            await self.lifespan.shutdown()
            sys.exit(FAILED)
        if self._inherited is not None:
            asyncio.get_running_loop().add_reader(self._inherited.alive, self._orphaned, self._inherited.alive)
        else:
            self._on_started(place(self.config.host, self.servers[-1].sockets[0].getsockname()[1]))
        self.started = True

    def _orphaned(self, alive: int) -> None:
        """The parent is gone, and with it the hub: what is left is to end in order, once."""
        asyncio.get_running_loop().remove_reader(alive)
        log.error("workers: the parent process is gone, worker %d ends: start `freshet serve` again", os.getpid())
        os.kill(os.getpid(), signal.SIGTERM)

    def _read_certificates(self) -> Certificates | None:
        """None: there is to be no TLS. Raises ConfigError."""
        if self._running.tls is not None:
            certificates = Certificates(self._running.tls)
            certificates.watch()
            return certificates
        if self._running.internal is not None and self._running.internal.tls:
            raise ConfigError("internal.tls", "needs a certificate: set tls.certificate")
        return None

    async def _listen(self, config: uvicorn.Config, host: str, port: int, certificates: Certificates | None) -> None:
        """Raises OSError."""
        http = cast(Callable[..., Any], config.http_protocol_class)
        serve = partial(http, config, self.server_state, self.lifespan.state)
        if config is self.config:  # where clients come
            serve = partial(Entrance, serve, self.server_state, self._lobby, self._running)
        made: Callable[[], asyncio.Protocol] = serve
        if certificates is not None:
            connections = cast("set[asyncio.Protocol]", self.server_state.connections)
            timeout = self._running.http.head_timeout
            made = partial(TlsHandshake, serve, certificates, connections, self._lobby, self._handshakes, timeout)
        loop = asyncio.get_running_loop()
        if self._inherited is not None:
            server = await loop.create_server(made, sock=listening(host, port, BACKLOG), backlog=BACKLOG)
        else:
            server = await loop.create_server(made, host, port, backlog=BACKLOG)
        for each in server.sockets:
            _bound_unsent(each.fileno())
        self.servers.append(server)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._certificates is not None:
            self._certificates.close()
        for server in self.servers:
            server.close()  # nobody new comes
        draining = {asyncio.ensure_future(drain()) for drain in self._running.drains}
        while draining and not self.force_exit:  # which a second signal asks for
            _, draining = await asyncio.wait(draining, timeout=0.1)
        await super().shutdown(sockets)
        await self._handshakes.stop()


def _bound_unsent(listener: int) -> None:
    """Of all that are accepted there: they have the options of their listener. Where the system has no such option, or
    it is no TCP, the kernel's own bounds are what there is."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with socket.socket(fileno=os.dup(listener)) as it, suppress(OSError):
            it.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)


def _open_files_limit() -> None:
    """Every client is an open file: ask for as many as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
