"""A network that can be cut: `with relaying(port) as relay:` passes bytes on to a server, until `relay.cut()`."""

import asyncio
import random
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from tests.tools.patience import seconds
from tests.tools.ports import HOST

BYTES = 65536


class Relay:
    """port: where clients connect instead. Runs in a thread of its own, so that a test may block."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._open = True
        self._flows = asyncio.Event()
        self._flows.set()
        self._delay = (0.0, 0.0)
        self._piece = (BYTES, 0.0)
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay")

    def start(self) -> None:
        self._thread.start()
        self._do(self._serve())

    def stop(self) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Break every connection, and let no new one through."""
        self._do(self._set(False))

    def mend(self) -> None:
        self._do(self._set(True))

    def silence(self) -> None:
        """Keep every connection, and let nothing through: neither side notices. `mend` lets on what waits."""
        self._do(self._stop_flow())

    def delay(self, least: float, most: float) -> None:
        """Everything that passes waits for so many seconds, by chance; what came first still passes first."""
        self._delay = (least, most)

    def trickle(self, piece: int, pause: float) -> None:
        """Everything passes in pieces of so many bytes, each so many seconds after the one before."""
        self._piece = (piece, pause)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds(10))

    async def _serve(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _set(self, is_open: bool) -> None:
        self._open = is_open
        self._flows.set()
        if not is_open:
            for writer in self._writers:
                writer.transport.abort()

    async def _stop_flow(self) -> None:
        self._flows.clear()

    async def _end(self) -> None:
        self._server.close()
        await self._set(False)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others, timeout=seconds(5)) if others else None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        try:
            upstream, back = await asyncio.open_connection(HOST, self._target)
        except OSError:  # nothing listens there just now
            writer.transport.abort()
            return
        pair = {writer, back}
        self._writers |= pair
        try:
            await asyncio.gather(self._pass(reader, back), self._pass(upstream, writer))
        finally:
            self._writers -= pair
            for each in pair:
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until either side ends."""
        try:
            while data := await reader.read(self._piece[0]):
                await self._flows.wait()
                if self._piece[1]:
                    await asyncio.sleep(self._piece[1])
                if self._delay[1]:
                    await asyncio.sleep(random.uniform(*self._delay))
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            writer.transport.abort()


@contextmanager
def relaying(target: int) -> Iterator[Relay]:
    """target: the server's port."""
    relay = Relay(target)
    relay.start()
    try:
        yield relay
    finally:
        relay.stop()
