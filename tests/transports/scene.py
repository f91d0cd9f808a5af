"""One client directly on a socket, in this process: what is written to it, and past its transport, can be looked at."""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from freshet import Freshet
from freshet.config import parse
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.model.frame import Frame, Handshake
from freshet.session.session import Session
from freshet.testing import ManualClock
from freshet.transports.native import SessionSocket
from tests.transports.sockets import Peer, joined

BACKLOG = 4
CONFIG = {
    "tokens": {"anonymous": True},
    "limits": {"backlog": BACKLOG},
    "timing": {"close_timeout": 5, "connect_timeout": 600},
}


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on the loop of the standard library, and on the one that serves."""

    @pytest.mark.parametrize("loop", LOOPS)
    @functools.wraps(test)
    def run(loop: str, **values: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(test(**values))

    signature = inspect.signature(test)
    added = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), added])  # type: ignore[attr-defined]
    return run


class Spy:
    """A transport, and what is written to it rather than to the kernel."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Scene:
    """One client of an application in this process, on one end of a socket pair; the test has the other end."""

    def __init__(self, live: Freshet, clock: ManualClock, transport: asyncio.Transport, deflate: bool) -> None:
        self.live = live
        self.clock = clock
        self.transport = Spy(transport)
        self.connections: set[asyncio.Protocol] = set()
        self.session: Session = live._dispatcher.open(Centrifuge(), Handshake("/"))
        self.outbox = self.session.outbox
        self.socket = SessionSocket(self.session, self.transport, self.connections, deflate)  # type: ignore[arg-type]

    def push(self, *texts: bytes) -> None:
        for text in texts:
            self.outbox.push(Frame(text))

    async def fill(self, *, text: bytes = b"x" * 100_000) -> int:
        """Push until the transport takes no more; how many frames that took. The client does not read meanwhile."""
        for number in range(1, 100):
            self.push(b"%d " % number + text)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if self.socket._paused:
                return number
        raise AssertionError("the transport takes everything")


@asynccontextmanager
async def opened(*, deflate: bool = False, before: bytes = b"") -> AsyncIterator[tuple[Scene, Peer]]:
    """before: what was written on the connection before the session had it."""
    clock = ManualClock()
    live = Freshet(config=parse(CONFIG), environment={}, clock=clock)
    async with live.lifespan(), joined(asyncio.Protocol(), deflate=deflate) as (transport, peer):
        transport.write(before)
        yield Scene(live, clock, transport, deflate), peer
