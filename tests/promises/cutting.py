"""Connections that are cut at random, and the ledger that must be right all the same."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tests.tools.clients import CONFIG
from tests.tools.serving import UNLIMITED, Server, serving


class Line:
    """A TCP line to a server that can be cut, in the middle of whatever passes through it.

    ports: where each connection may lead, by chance.
    """

    def __init__(self, *ports: int) -> None:
        self._targets = ports
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.cuts = 0

    @asynccontextmanager
    async def laid(self) -> AsyncIterator["Line"]:
        listening = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        async with listening:
            yield self
        while self._tasks:  # one that was just being accepted is cut the next time
            self.cut()
            await asyncio.wait(self._tasks, timeout=0.05)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        there, back = await asyncio.open_connection("127.0.0.1", random.choice(self._targets))
        self._writers |= {writer, back}
        await asyncio.gather(self._carry(reader, back), self._carry(there, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(random.choice((1, 7, 200, 4096))):
                writer.write(data)
                await writer.drain()
        writer.close()
        self._writers.discard(writer)

    def cut(self) -> None:
        """Now, without a word: what was on its way is lost."""
        self.cuts += bool(self._writers)
        for writer in list(self._writers):
            writer.transport.abort()
        self._writers.clear()


async def cut_lines(lines: list[Line], chance: random.Random) -> None:
    while True:
        await asyncio.sleep(chance.random() * 0.12)
        chance.choice(lines).cut()


def check(got: list[tuple[int, Any] | None], acknowledged: set[Any], *, complete: bool) -> None:
    """One subscriber in one channel."""
    offset = 0
    for each in got:
        if each is None:
            assert not complete, "told of a gap in a channel that keeps everything"
            offset = -1  # the next may be anything later
            continue
        assert each[0] == offset + 1 or offset == -1, f"offset {each[0]} after {offset}: a gap that nobody mentioned"
        offset = each[0]
    data = [each[1] for each in got if each is not None]
    assert len(data) == len(set(data)), "a publication came twice"
    assert set(data) <= acknowledged
    if complete:
        assert set(data) == acknowledged


def unlimited_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For a fixture: clients publish there as fast as they can."""
    config = tmp_path_factory.mktemp("recovery") / "freshet.toml"
    config.write_text(CONFIG + UNLIMITED)
    with serving("--config", str(config)) as server:
        yield server
