"""The process that writes an answer, so that it can be killed: one for each answer, which is gone with it."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from freshet import Refusal
from freshet.demos import model

AT_ONCE = 8  # processes; further answers wait for one of these to end
room = asyncio.Semaphore(AT_ONCE)


class Worker:
    """breaks: whether what reads from it is to raise, as if the connection to a model broke."""

    def __init__(self, process: Process) -> None:
        self.breaks = False
        self._process = process

    async def pieces(self) -> AsyncIterator[str]:
        """What it writes. Raises `Refusal` when it does not come to its end."""
        assert self._process.stdout is not None  # a pipe
        async for line in self._process.stdout:
            if self.breaks:
                raise Refusal.not_available("the connection to the model broke")
            yield json.loads(line)
        if code := await self._process.wait():
            raise Refusal.not_available("the process that wrote it was killed" if code < 0 else "the model failed")

    def kill(self) -> None:
        """By SIGKILL: it has no time to say anything."""
        with suppress(ProcessLookupError):
            self._process.kill()


@asynccontextmanager
async def worker(history: list[dict[str, Any]], text: str, behind: str) -> AsyncIterator[Worker]:
    """See `model.reply`. It ends with the block; and with this process, however that ends, as nobody reads it then."""
    async with room:
        command = (sys.executable, "-P", model.__file__)
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, start_new_session=True)
        it = Worker(process)
        try:
            assert process.stdin is not None  # a pipe
            process.stdin.write(json.dumps([history, text, behind]).encode())
            process.stdin.close()
            yield it
        finally:
            it.kill()
            await process.wait()
