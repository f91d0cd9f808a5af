"""The messages between the nodes that share an engine: broadcasts to all, and requests that one of them answers.

A request waits for its reply until a deadline; meanwhile the node that was asked is probed, so that the death of a node
is noticed within seconds where a reply may take longer (a poll that is passed on waits for half a minute).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import NamedTuple

import msgspec

from freshet.engines.base import Engine
from freshet.errors import EngineUnavailable
from freshet.runtime.tasks import Tasks, in_task

log = logging.getLogger("freshet.bus")

REPLY, FAILURE, CANCEL, PROBE = "reply", "failure", "cancel", "probe"
JOIN, LEAVE = "join", "leave"
KNOWN_NODES, NODE_NAME = 1000, 64  # nodes that are remembered, and bytes of a name
STRANGERS = 64  # requests that wait for nodes of which nothing is known but a name
PROBE_INTERVAL = 1.0  # seconds between probes of a node that is asked something
PROBE_TIMEOUT = 5.0  # seconds in which a node has to answer a probe

Handler = Callable[[bytes], Awaitable[bytes]]
"""Answers a request, of which it gets the body."""

WaitingHandler = Callable[[bytes, asyncio.Event], Awaitable[bytes]]
"""As `Handler`, for an answer that may take long: the event is set when the node that asked no longer waits."""


class BusMessage(msgspec.Struct, array_like=True):
    """correlation_id, sender: of a request, for its reply; 0 when none is expected."""

    kind: str
    body: bytes = b""
    correlation_id: int = 0
    sender: str = ""


class _PendingRequest(NamedTuple):
    node: str
    reply: asyncio.Future[bytes]


class _NoReply(EngineUnavailable):
    """A node did not reply, though the message could be sent."""


class Bus:
    """One node's end of it. handlers, waiting_handlers: by the kind of request, which is in one of the two.

    peers: the other nodes that have announced themselves. node: this one's name.
    """

    def __init__(self, node: str, engine: Engine) -> None:
        self.handlers: dict[str, Handler] = {PROBE: self._probed, JOIN: self._joined, LEAVE: self._left}
        self.waiting_handlers: dict[str, WaitingHandler] = {}
        self.peers: set[str] = set()
        self.unreadable = 0  # messages that nobody here understands
        self.node = node
        self._engine = engine
        self._correlation_ids = count(1)
        self._requests: dict[int, _PendingRequest] = {}
        self._to_strangers = 0  # those of them to nodes that have not announced themselves
        self._probing: set[str] = set()
        self._handling: dict[tuple[str, int], asyncio.Event] = {}
        self._tasks = Tasks()

    async def stop(self) -> None:
        await self._tasks.stop()

    def may_reach(self, node: str) -> bool:
        """Whether there may be such a node beside this one.

        The name comes from a client, who may have invented it. A node that has announced itself is there; for others
        only so many requests wait at a time.
        """
        if not self._engine.shared or not 0 < len(node) <= NODE_NAME or node == self.node:
            return False
        return node in self.peers or self._to_strangers < STRANGERS

    # -------------------------------------------------------------------------------------------------------- sending

    async def broadcast(self, kind: str, body: bytes) -> None:
        """To all other nodes. Raises EngineUnavailable."""
        if self._engine.shared:
            await self._engine.tell(None, msgspec.msgpack.encode(BusMessage(kind, body)))

    async def announce(self, *, leaving: bool = False) -> None:
        """Let all others know that this node is there, or that it ends. Repeated now and then: one may be lost."""
        with suppress(EngineUnavailable):
            await self.broadcast(LEAVE if leaving else JOIN, self.node.encode())

    async def send(self, node: str, kind: str, body: bytes) -> None:
        """To one node, without a reply: it may be lost, which is logged where it is known."""
        await self._send(node, BusMessage(kind, body))

    async def request(self, node: str, kind: str, body: bytes, timeout: float) -> bytes:  # noqa: ASYNC109 - of the reply
        """One node's reply.

        Raises EngineUnavailable: the engine is, there is no reply within `timeout` seconds, or the node is gone.
        """
        if node not in self._probing:
            self._probing.add(node)
            self._tasks.start(self._probe(node), f"bus: probe of {node}")
        return await self._request(node, kind, body, timeout)

    async def request_all(self, kind: str, body: bytes, timeout: float) -> list[bytes]:  # noqa: ASYNC109 - of each reply
        """The replies of this node and all others. One that does not reply is forgotten until it announces itself."""
        nodes = [self.node, *sorted(self.peers)]
        replies = await asyncio.gather(*(self._reply_of(node, kind, body, timeout) for node in nodes))
        return [reply for reply in replies if reply is not None]

    async def request_neighbours(self, kind: str, body: bytes, timeout: float) -> dict[int, bytes]:  # noqa: ASYNC109
        """The replies of this node and those that share its port, by their places; who does not reply is missing.

        See `Engine.neighbours`.
        """
        try:
            nodes = await self._engine.neighbours()
        except EngineUnavailable:
            nodes = []
        places = {place: node for place, node in enumerate(nodes or [self.node]) if node}
        replies = await asyncio.gather(*(self._reply_of(node, kind, body, timeout) for node in places.values()))
        return {place: reply for place, reply in zip(places, replies, strict=True) if reply is not None}

    async def _reply_of(self, node: str, kind: str, body: bytes, timeout: float) -> bytes | None:  # noqa: ASYNC109
        if node == self.node:
            return await self._run(kind, body, asyncio.Event())
        try:
            return await self.request(node, kind, body, timeout)
        except EngineUnavailable as why:
            log.warning("bus: no reply from node %s to %r, the result is without it: %s", node, kind, why)
            if isinstance(why, _NoReply):
                self.peers.discard(node)
            return None

    async def _request(self, node: str, kind: str, body: bytes, timeout: float) -> bytes:  # noqa: ASYNC109
        await in_task()
        correlation_id = next(self._correlation_ids)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._requests[correlation_id] = _PendingRequest(node, reply)
        stranger = node not in self.peers
        self._to_strangers += stranger
        message = BusMessage(kind, body, correlation_id, self.node)
        try:
            await self._engine.tell(node, msgspec.msgpack.encode(message))
            async with asyncio.timeout(timeout):
                return await reply
        except TimeoutError:
            raise _NoReply(f"node {node} does not reply") from None
        finally:
            self._to_strangers -= stranger
            del self._requests[correlation_id]
            if reply.cancelled():
                cancel = BusMessage(CANCEL, b"", correlation_id, self.node)
                self._tasks.start(self._send(node, cancel), "bus: cancel a request")

    async def _send(self, node: str, message: BusMessage) -> None:
        try:
            await self._engine.tell(node, msgspec.msgpack.encode(message))
        except EngineUnavailable as why:
            log.warning("bus: %r was not sent to node %s: %s", message.kind, node, why)

    # ------------------------------------------------------------------------------------------------ failure detector

    async def _probe(self, node: str) -> None:
        """As long as a node is asked something; the requests to one that does not answer probes fail."""
        try:
            await asyncio.sleep(PROBE_INTERVAL)  # most are answered by then
            while any(request.node == node for request in self._requests.values()):
                try:
                    await self._request(node, PROBE, b"", PROBE_TIMEOUT)
                except _NoReply as why:
                    self._fail_requests(node, why)
                except EngineUnavailable:
                    pass  # nothing can be sent to anybody, which says nothing about the node
                await asyncio.sleep(PROBE_INTERVAL)
        finally:
            self._probing.discard(node)

    def _fail_requests(self, node: str, why: _NoReply) -> None:
        for request in self._requests.values():
            if request.node == node and not request.reply.done():
                request.reply.set_exception(_NoReply(str(why)))

    # ------------------------------------------------------------------------------------------------------ receiving

    def receive(self, message: bytes) -> None:
        """What the engine calls. Whatever the message holds, nothing is raised."""
        try:
            it = msgspec.msgpack.decode(message, type=BusMessage)
        except (ValueError, RecursionError):
            it = BusMessage("")
        if it.kind in (REPLY, FAILURE):
            self._replied(it)
        elif it.kind == CANCEL:
            if (cancelled := self._handling.get((it.sender, it.correlation_id))) is not None:
                cancelled.set()
        elif it.kind in self.handlers or it.kind in self.waiting_handlers:
            self._tasks.start(self._handle(it), f"bus: {it.kind}")
        else:
            self.unreadable += 1
            if self.unreadable & (self.unreadable - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
                log.warning(
                    "bus: %d messages so far could not be read, they were dropped: do all nodes run this version?",
                    self.unreadable,
                )

    def _replied(self, it: BusMessage) -> None:
        request = self._requests.get(it.correlation_id)
        if request is None or request.reply.done():
            return
        if it.kind == REPLY:
            request.reply.set_result(it.body)
        else:
            request.reply.set_exception(EngineUnavailable("the other node failed"))

    async def _handle(self, it: BusMessage) -> None:
        key, cancelled = (it.sender, it.correlation_id), asyncio.Event()
        if it.correlation_id:
            self._handling[key] = cancelled
        try:
            reply = BusMessage(REPLY, await self._run(it.kind, it.body, cancelled), it.correlation_id)
        except Exception:
            log.exception("bus: request %r of node %s failed, that node gets an error", it.kind, it.sender)
            reply = BusMessage(FAILURE, b"", it.correlation_id)
        finally:
            self._handling.pop(key, None)
        if it.correlation_id:
            await self._send(it.sender, reply)

    def _run(self, kind: str, body: bytes, cancelled: asyncio.Event) -> Awaitable[bytes]:
        if (handler := self.handlers.get(kind)) is not None:
            return handler(body)
        return self.waiting_handlers[kind](body, cancelled)

    async def _probed(self, body: bytes) -> bytes:
        return b""

    async def _joined(self, body: bytes) -> bytes:
        node = body[:NODE_NAME].decode(errors="replace")
        if node not in self.peers and self.may_reach(node) and len(self.peers) < KNOWN_NODES:
            self.peers.add(node)
            await self._send(node, BusMessage(JOIN, self.node.encode()))  # it may not know of this one
        return b""

    async def _left(self, body: bytes) -> bytes:
        self.peers.discard(body.decode(errors="replace"))
        return b""
