"""The start of an application and its end: once, in one event loop, however many ask for it.

An application around it has its lifespan: so it starts before the first request, and ends in order. Where that was
forgotten, it starts at the first request, says so, and is not stopped.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import copy_context

from freshet.commands.dispatch import Dispatcher
from freshet.runtime import siblings
from freshet.runtime.server import SERVER
from freshet.runtime.signals import EndingSignals
from freshet.wiring.direct import DirectWay

log = logging.getLogger("freshet")


class Lifecycle:
    """prepare: called once, before the first start: whatever is registered until then counts.

    direct: what the server has from the start to the end.
    """

    def __init__(self, dispatcher: Dispatcher, prepare: Callable[[], None], direct: DirectWay) -> None:
        self._node = dispatcher.node
        self._frames = dispatcher.frames  # how fast a WebSocket is read that is not Freshet's
        self._prepare = prepare
        self._direct = direct
        self._signals = EndingSignals(self._node.begin_draining)
        self._starting: asyncio.Task[None] | None = None
        self._context = copy_context()
        self._in_lifespan = False
        self._prepared = False

    @property
    def has_begun(self) -> bool:
        """Whether it starts, or has started, in this event loop. Raises RuntimeError when it runs in another one."""
        return self._started() is not None

    @property
    def is_ready(self) -> bool:
        """Whether it has started. Raises as `has_begun`."""
        started = self._started()
        return started is not None and started.done()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """It runs within."""
        self._in_lifespan = True
        await self._start()
        try:
            yield
        finally:
            self._signals.stop()
            await self._node.stop()
            self._starting = None
            if (server := SERVER.get()) is not None and self._node.drain in server.drains:
                server.drains.remove(self._node.drain)
                self._direct.close(server)

    async def start_late(self) -> None:
        """There is a request already, and it has not started."""
        if not self._in_lifespan:
            log.warning(
                "started at the first request, and will not be stopped in order: pass lifespan=live.lifespan to "
                "the application around it"
            )
            self._in_lifespan = True
        await self._start()

    def _started(self) -> asyncio.Task[None] | None:
        """Its start. Raises as `has_begun`."""
        if self._starting is not None and self._starting.get_loop() is not asyncio.get_running_loop():
            if not self._starting.get_loop().is_closed():
                raise self._node.portal.elsewhere()
            self._starting = None  # that loop is gone, and whatever ran in it
        return self._starting

    async def _start(self) -> None:
        """Start once, however many ask at the same time."""
        starting, server, config = self._started(), SERVER.get(), self._node.config
        if starting is None:
            if not self._prepared:
                self._prepared = True
                self._prepare()
            # Not in the context of whoever comes first, whose variables all that runs later would have.
            work, context = self._begin(), self._context
            starting = self._starting = self._node.tasks.start(work, "node: start", context=context)
            if server is not None:
                server.drains.append(self._node.drain)
                server.compression |= config.websocket.compression
                server.frames = self._frames
        try:
            await asyncio.shield(starting)
        except Exception:
            if self._starting is starting:
                self._starting = None  # the next one tries again
            raise
        if server is not None:
            self._direct.open(server)
        elif config.drain_on_signal:
            self._signals.watch()

    async def _begin(self) -> None:
        if not self._node.engine.shared:
            await siblings.be_the_only_one()
        await self._node.start()
