"""A lock for each of many things, such as channels. One that nobody holds costs nothing."""

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Locks(Generic[K]):
    """Who comes for the same key goes one after the other, in the order in which they came.

    `if not locks.take(key): await locks.wait(key)` takes one; whoever has it calls `release`, whatever happens. In two
    steps, so that one that is free costs no coroutine.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[K, deque[asyncio.Future[None]] | None] = {}  # with those who wait, if any

    def __len__(self) -> int:
        """How many are held."""
        return len(self._held)

    def take(self, key: K) -> bool:
        """Whether it was free; the caller has it now."""
        if key in self._held:
            return False
        self._held[key] = None
        return True

    async def wait(self, key: K) -> None:
        """Until the caller has it, which was not free."""
        waiting = self._held[key]
        if waiting is None:
            waiting = self._held[key] = deque()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn had come
                self.release(key)
            raise

    def release(self, key: K) -> None:
        """The next one's turn has come."""
        waiting = self._held.pop(key)
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                self._held[key] = waiting
                turn.set_result(None)
                return
