"""Sends what this node counts to a DogStatsD agent, now and then. One that is not there takes nothing from clients."""

import asyncio
import logging
import socket
from collections.abc import Callable

import msgspec

from freshet.config import Config
from freshet.engines.base import Engine
from freshet.errors import ConfigError, EngineUnavailable
from freshet.observe.counts import Snapshot
from freshet.observe.dogstatsd import datagrams, lines, nothing
from freshet.observe.logs import BoundedLog
from freshet.runtime.tasks import Tasks

_log = BoundedLog(logging.getLogger("freshet.statsd"), interval=60.0)


class StatsdExporter:
    """Implements `Part`. node: its name. snapshot: of it. Raises ConfigError for an address that is none."""

    def __init__(self, config: Config, node: str, engine: Engine, snapshot: Callable[[], Snapshot]) -> None:
        self._address = address_of(config.statsd)
        self._interval = config.statsd_interval
        self._tags = config.statsd_tags
        self._node = node
        self._engine = engine
        self._snapshot = snapshot
        self._before = nothing()
        self._socket: socket.socket | None = None
        self._tasks = Tasks()

    async def start(self) -> None:
        if self._address is not None:
            self._before = nothing()
            self._tasks.start(self._run(), "statsd: export")

    async def stop(self) -> None:
        await self._tasks.stop()
        if self._address is not None:
            await self._export()  # what happened last
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._export()

    async def _export(self) -> None:
        now = msgspec.msgpack.decode(msgspec.msgpack.encode(self._snapshot()), type=Snapshot)  # which stays as it is
        tags = [*self._tags, f"worker:{await self._place()}"]
        try:
            if self._socket is None:
                self._socket = await self._open()
            for datagram in datagrams(lines(self._before, now, tags)):
                self._socket.send(datagram)
        except OSError as error:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            _log.warning("send", "metrics could not be sent to %s (%s): see the option statsd", self._address, error)
        self._before = now

    async def _place(self) -> int:
        """Of this worker among those that share its port: gauges of several are apart, and tags are few."""
        try:
            nodes = await self._engine.neighbours()
        except EngineUnavailable:
            nodes = []
        return nodes.index(self._node) if self._node in nodes else 0

    async def _open(self) -> socket.socket:
        """Raises OSError."""
        assert self._address is not None
        if isinstance(self._address, str):
            family, where = socket.AF_UNIX, [(socket.AF_UNIX, self._address)]
        else:
            host, port = self._address
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            where = [(each[0], each[4]) for each in found]  # type: ignore[misc]
        family, address = where[0]
        opened = socket.socket(family, socket.SOCK_DGRAM)
        opened.setblocking(False)
        try:
            opened.connect(address)
        except OSError:
            opened.close()
            raise
        return opened


def address_of(text: str) -> tuple[str, int] | str | None:
    """Host and port, or the path of a Unix socket; None: there is none. Raises ConfigError."""
    if not text:
        return None
    if text.startswith(("unix://", "/")):
        return text.removeprefix("unix://")
    host, _, port = text.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigError("statsd", f"expected host:port or unix:///path, got {text!r}")
    return host.strip("[]"), int(port)
