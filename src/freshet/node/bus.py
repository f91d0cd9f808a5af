"""What the nodes that share an engine say to each other over it: orders for all, and questions that one answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple

import msgspec

from freshet.engines.base import Engine
from freshet.errors import EngineUnavailable

log = logging.getLogger("freshet.peers")

ANSWER, FAILED, GONE, THERE = "answer", "failed", "gone", "there"
CAME, LEFT = "came", "left"
MOST, LONGEST = 1000, 64  # nodes that are known, and bytes of a name
LOOK = 1.0  # seconds from one look at a node that is asked something to the next
LIFE = 5.0  # seconds in which a node has to say that it is there

Verb = Callable[[bytes, asyncio.Event], Awaitable[bytes]]
"""What is done when another node says a word: with what it said, and an event that is set when it no longer waits."""


class Said(msgspec.Struct, array_like=True):
    """number, asker: of a question, for its answer; 0 when none is expected."""

    verb: str
    body: bytes = b""
    number: int = 0
    asker: str = ""


class _Question(NamedTuple):
    node: str
    answer: asyncio.Future[bytes]


class _Silent(EngineUnavailable):
    """A node did not answer, though it could be told."""


class Peers:
    """The other nodes, as one node sees them. verbs: what it does at their word. others: those that said they came."""

    def __init__(self, node: str, engine: Engine) -> None:
        self.verbs: dict[str, Verb] = {THERE: self._here, CAME: self._came, LEFT: self._left}
        self.others: set[str] = set()
        self.garbage = 0  # messages that nobody here understands
        self._node = node
        self._engine = engine
        self._numbers = count(1)
        self._asked: dict[int, _Question] = {}
        self._watched: set[str] = set()
        self._answering: dict[tuple[str, int], asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def knows(self, node: str) -> bool:
        """Whether there may be such a node beside this one."""
        return self._engine.shared and bool(node) and node != self._node

    async def tell(self, verb: str, body: bytes) -> None:
        """To all others. Raises EngineUnavailable."""
        if self._engine.shared:
            await self._engine.tell(None, msgspec.msgpack.encode(Said(verb, body)))

    async def announce(self, *, end: bool = False) -> None:
        """Say to all others that this node is there, or that it ends. Now and then again: it may have been lost."""
        with suppress(EngineUnavailable):
            await self.tell(LEFT if end else CAME, self._node.encode())

    async def _came(self, body: bytes, gone: asyncio.Event) -> bytes:
        node = body[:LONGEST].decode(errors="replace")
        if node not in self.others and self.knows(node) and len(self.others) < MOST:
            self.others.add(node)
            await self._say(node, Said(CAME, self._node.encode()))  # it may not know of this one
        return b""

    async def _left(self, body: bytes, gone: asyncio.Event) -> bytes:
        self.others.discard(body.decode(errors="replace"))
        return b""

    async def ask_all(self, verb: str, body: bytes, patience: float) -> list[bytes]:
        """What this node and all others answer. Who does not answer is no longer known, until it says that it is."""
        nodes = [self._node, *sorted(self.others)]
        answers = await asyncio.gather(*(self._answer_of(node, verb, body, patience) for node in nodes))
        return [answer for answer in answers if answer is not None]

    async def ask(self, node: str, verb: str, body: bytes, patience: float) -> bytes:
        """One node's answer.

        Raises EngineUnavailable: the engine is, there is no answer in `patience` seconds, or the node is gone.
        """
        if node not in self._watched:
            self._watched.add(node)
            self._spawn(self._watch(node))
        return await self._question(node, verb, body, patience)

    async def ask_neighbours(self, verb: str, body: bytes, patience: float) -> dict[int, bytes]:
        """What this node and those that share its port answer, by their places; who does not answer is missing.

        See `Engine.neighbours`.
        """
        try:
            nodes = await self._engine.neighbours()
        except EngineUnavailable:
            nodes = []
        places = {place: node for place, node in enumerate(nodes or [self._node]) if node}
        asking = (self._answer_of(node, verb, body, patience) for node in places.values())
        answers = zip(places, await asyncio.gather(*asking), strict=True)
        return {place: answer for place, answer in answers if answer is not None}

    async def _answer_of(self, node: str, verb: str, body: bytes, patience: float) -> bytes | None:
        if node == self._node:
            return await self.verbs[verb](body, asyncio.Event())
        try:
            return await self.ask(node, verb, body, patience)
        except EngineUnavailable as why:
            log.warning("%s: %s", verb, why)
            if isinstance(why, _Silent):
                self.others.discard(node)
            return None

    async def _question(self, node: str, verb: str, body: bytes, patience: float) -> bytes:
        number = next(self._numbers)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[number] = _Question(node, answer)
        try:
            await self._engine.tell(node, msgspec.msgpack.encode(Said(verb, body, number, self._node)))
            async with asyncio.timeout(patience):
                return await answer
        except TimeoutError:
            raise _Silent(f"node {node} does not answer") from None
        finally:
            del self._asked[number]
            if answer.cancelled():
                self._spawn(self._say(node, Said(GONE, b"", number, self._node)))

    async def _watch(self, node: str) -> None:
        """Look at a node while it is asked something: a poll waits long, and the node that has it may die meanwhile."""
        try:
            await asyncio.sleep(LOOK)  # most are answered by then
            while any(asked.node == node for asked in self._asked.values()):
                try:
                    await self._question(node, THERE, b"", LIFE)
                except _Silent as why:
                    self._bury(node, why)
                except EngineUnavailable:
                    pass  # nobody can be told anything, which says nothing about the node
                await asyncio.sleep(LOOK)
        finally:
            self._watched.discard(node)

    def _bury(self, node: str, why: _Silent) -> None:
        for asked in self._asked.values():
            if asked.node == node and not asked.answer.done():
                asked.answer.set_exception(_Silent(str(why)))

    async def _here(self, body: bytes, gone: asyncio.Event) -> bytes:
        return b""

    def hear(self, message: bytes) -> None:
        """What the engine calls. Whatever the message holds, nothing is raised."""
        try:
            said = msgspec.msgpack.decode(message, type=Said)
        except (ValueError, RecursionError):
            said = Said("")
        if said.verb in (ANSWER, FAILED):
            self._answered(said)
        elif said.verb == GONE:
            if (gone := self._answering.get((said.asker, said.number))) is not None:
                gone.set()
        elif (verb := self.verbs.get(said.verb)) is not None:
            self._spawn(self._do(verb, said))
        else:
            self.garbage += 1
            if self.garbage & (self.garbage - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
                log.warning("%d messages from other nodes made no sense", self.garbage)

    def _answered(self, said: Said) -> None:
        asked = self._asked.get(said.number)
        if asked is None or asked.answer.done():
            return
        if said.verb == ANSWER:
            asked.answer.set_result(said.body)
        else:
            asked.answer.set_exception(EngineUnavailable("the other node failed"))

    async def _do(self, verb: Verb, said: Said) -> None:
        key, gone = (said.asker, said.number), asyncio.Event()
        if said.number:
            self._answering[key] = gone
        try:
            answer = Said(ANSWER, await verb(said.body, gone), said.number)
        except Exception:
            log.exception("%s, which another node asked for, failed", said.verb)
            answer = Said(FAILED, b"", said.number)
        finally:
            self._answering.pop(key, None)
        if said.number:
            await self._say(said.asker, answer)

    async def _say(self, node: str, said: Said) -> None:
        try:
            await self._engine.tell(node, msgspec.msgpack.encode(said))
        except EngineUnavailable as why:
            log.warning("could not tell node %s: %s", node, why)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
