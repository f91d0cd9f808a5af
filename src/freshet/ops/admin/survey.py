"""What one node tells operators of itself: its numbers, its busiest channels, its clients, what went wrong lately.

Nothing is gathered unless somebody looks, and a node with many clients gives the loop a turn between portions of them.
"""

import asyncio
import logging
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from heapq import nlargest
from itertools import islice
from typing import Self, TypeVar

import msgspec

from freshet.commands.dispatch import Dispatcher
from freshet.errors import Disconnect
from freshet.observe.counts import Snapshot
from freshet.observe.distinct import hashed, merged
from freshet.session.session import Session

log = logging.getLogger("freshet.admin")

SURVEY, CLIENTS, DISCONNECT = "admin.survey", "admin.clients", "admin.disconnect"
BUSIEST = 30  # channels
SLOWEST = 20  # clients
FOUND = 100  # clients of one search
SHOWN = 200  # channels of one client
PORTION = 2000  # sessions or channels that are looked at in one turn of the loop
LINES = 100  # of the log

T = TypeVar("T")


class Problem(msgspec.Struct, frozen=True):
    """A line of the log. at: epoch seconds."""

    at: float
    level: str
    source: str
    text: str


class RecentProblems(logging.Handler):
    """The last warnings and errors of this process."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: deque[Problem] = deque(maxlen=LINES)
        self.total = 0

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        text = text.encode(errors="backslashreplace").decode()
        self.total += 1
        self.lines.append(Problem(record.created, record.levelname.lower(), record.name, text[:1000]))


class ClientView(msgspec.Struct, frozen=True):
    """One client. waiting: bytes that it has not read yet. expires: epoch seconds, or 0. info: JSON.

    round_trip: seconds, of the last ping that it answered.
    """

    id: str
    user: str
    node: str
    dialect: str
    transport: str
    waiting: int
    subscriptions: int
    expires: float
    round_trip: float | None = None
    address: str = ""
    info: str = ""
    channels: list[str] = []

    @classmethod
    def of(cls, session: Session, node: str, *, whole: bool = False) -> Self:
        return cls(
            session.id,
            session.user,
            node,
            session.dialect.label,
            session.outbox.transport,
            session.outbox.waiting,
            len(session.subscriptions),
            session.expires,
            session.round_trip,
            session.address,
            bytes(session.info).decode(errors="replace")[:1000] if whole else "",
            sorted(islice(session.subscriptions, SHOWN)) if whole else [],
        )


class NodeSurvey(msgspec.Struct):
    """channels: name, subscribers, events fanned out so far. problems_total: how many lines there have been.

    users: a sample of them, see `freshet.observe.distinct`; none if there is no other node.
    """

    node: str
    host: str
    process: int
    snapshot: Snapshot
    channels: list[tuple[str, int, int]]
    slow: list[ClientView]
    problems: list[Problem]
    problems_total: int
    users: list[int] = []


class ClientQuery(msgspec.Struct):
    """text: a part of a user's name or of a client's id; exact: all of it. whole: with its channels."""

    text: str
    exact: bool = False
    whole: bool = False


class Surveyor:
    """Answers for one node, to whichever asks."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._node = dispatcher.node
        self.problems = RecentProblems()
        self._node.bus.handlers |= {SURVEY: self._survey, CLIENTS: self._clients, DISCONNECT: self._disconnect}

    def start(self) -> None:
        logging.getLogger("freshet").addHandler(self.problems)

    def stop(self) -> None:
        logging.getLogger("freshet").removeHandler(self.problems)

    async def _survey(self, body: bytes) -> bytes:
        node, snapshot = self._node, self._node.snapshot()
        channels: set[tuple[str, int, int]] = set()
        async for portion in _portions(node.hub.activity()):
            for column in (1, 2):
                channels.update(nlargest(BUSIEST, portion, key=lambda it, column=column: it[column]))  # type: ignore[misc]
        slow: list[Session] = []
        async for sessions in _portions(iter(list(node.registry))):
            waiting = [it for it in sessions if it.outbox.first is not None]
            slow = nlargest(SLOWEST, [*slow, *waiting], key=lambda it: it.outbox.waiting)
        busiest = {it for column in (1, 2) for it in nlargest(BUSIEST, channels, key=lambda it: it[column])}
        return msgspec.msgpack.encode(
            NodeSurvey(
                node.id,
                socket.gethostname(),
                os.getpid(),
                snapshot,
                sorted(busiest),
                [ClientView.of(it, node.id) for it in slow],
                list(self.problems.lines),
                self.problems.total,
                await self._users(),
            )
        )

    async def _users(self) -> list[int]:
        sample: list[int] = []
        if self._node.bus.peers:
            async for names in _portions(iter(self._node.registry.names())):
                sample = merged([sample, hashed(names)])
        return sample

    async def _clients(self, body: bytes) -> bytes:
        query, node = msgspec.msgpack.decode(body, type=ClientQuery), self._node
        found: list[Session] = []
        async for sessions in _portions(iter(list(node.registry))):
            found += [it for it in sessions if it.connected and _fits(query, it)]
            if len(found) >= FOUND:
                break
        return msgspec.msgpack.encode([ClientView.of(it, node.id, whole=query.whole) for it in found[:FOUND]])

    async def _disconnect(self, body: bytes) -> bytes:
        id = body.decode()
        for session in list(self._node.registry):
            if session.id == id:
                session.close(Disconnect.force_no_reconnect())
                return b"1"
        return b""


def _fits(query: ClientQuery, session: Session) -> bool:
    if query.exact:
        return query.text in (session.user, session.id)
    text = query.text.casefold()
    return text in session.user.casefold() or text in session.id


async def _portions(items: Iterator[T]) -> AsyncIterator[list[T]]:
    while portion := list(islice(items, PORTION)):
        yield portion
        await asyncio.sleep(0)


def now() -> float:
    """Epoch seconds."""
    return time.time()
