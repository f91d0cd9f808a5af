"""The commands of one client that wait, and how they are run: one after the other.

There is a `Backlog` from when one has to wait until the last of them is done. A client that is quiet has none.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from freshet.errors import Disconnect
from freshet.model.commands import Command
from freshet.session.outbox import AT_ONCE, Outbox
from freshet.session.undecoded import Undecoded

Run = Callable[[Command], Coroutine[Any, Any, None] | None]
"""Runs one command, to its end or up to where it has to wait: see `session.Host`."""


class Behind(Protocol):
    """Who has a backlog: a session."""

    outbox: Outbox
    ended: Disconnect | None

    def failed(self, why: Exception) -> None:
        """One of its commands has ended it."""

    def caught_up(self) -> None:
        """Nothing waits any more, or nothing will be run."""


class Backlog:
    """limit: commands that are decoded. monotonic: seconds. crowded_since: when it began to wait for the client, which
    has to read what it asked for before; 0: it does not.
    """

    __slots__ = ("_commands", "_heavy", "_limit", "_monotonic", "_run", "_session", "_undecoded", "crowded_since")

    def __init__(self, session: Behind, run: Run, limit: int, monotonic: Callable[[], float]) -> None:
        self._session = session
        self._run = run
        self._limit = limit
        self._monotonic = monotonic
        self._commands: deque[Command] = deque()
        self._undecoded: Undecoded | None = None
        self._heavy = False
        self.crowded_since = 0.0

    def __bool__(self) -> bool:
        return bool(self._commands or self._undecoded)

    @property
    def full(self) -> bool:
        """Whether no more is to be read from the client."""
        return self._undecoded is not None or self._heavy or len(self._commands) >= self._limit

    @property
    def holds_bytes(self) -> bool:
        """Whether some are not decoded yet, so that what comes next is not looked at either."""
        return self._undecoded is not None

    def put(self, commands: Iterable[Command], *, heavy: bool) -> None:
        """The commands of a frame, behind those that came before: of an iterator only as many as may wait are decoded.

        heavy: too large for others to wait behind it. Raises `Disconnect`, as the iterator.
        """
        if self._undecoded is not None:
            self._undecoded.put(commands)
        elif type(commands) is list:
            self._commands += commands
        else:
            self._undecoded = Undecoded(self._limit)
            self._undecoded.put(commands)
            self._commands += self._decoded()
        if heavy and self._commands:
            self._heavy = True

    def _decoded(self) -> list[Command]:
        assert self._undecoded is not None
        commands = self._undecoded.take()
        if not self._undecoded:
            self._undecoded = None
        return commands

    async def work(self, rest: Coroutine[Any, Any, None] | None = None) -> None:
        """Run all that wait. rest: of the one that was begun before."""
        session, commands, done = self._session, self._commands, 0
        outbox = session.outbox
        was_full = False
        try:
            if rest is not None:
                await rest
            while (commands or self._undecoded) and not session.ended and not outbox.closed:
                if outbox.crowded:
                    was_full = True
                    await self._drained()
                    continue
                if not commands:
                    was_full = True
                    await asyncio.sleep(0)  # other clients have their turn between two portions of a large frame
                    commands += self._decoded()
                    continue
                done += 1
                if not done % AT_ONCE:
                    await asyncio.sleep(0)  # other clients have their turn
                if self._undecoded or len(commands) >= self._limit:  # it may fill up whenever this waits
                    was_full = True
                if (rest := self._run(commands.popleft())) is not None:
                    await rest
        except Exception as why:
            session.failed(why)
        finally:
            session.caught_up()
        if was_full or self._heavy:
            outbox.wake()

    async def _drained(self) -> None:
        """Until the client has read most of what it asked for before: it gets no more any faster."""
        self.crowded_since = self._monotonic()
        try:
            await self._session.outbox.drained()
        finally:
            self.crowded_since = 0.0
