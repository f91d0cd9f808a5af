"""The way to the owner of a name, wherever it is: a request is carried out there, once.

A request has an id. Whoever waits for its reply asks now and then who the owner is; if that is another one by now, the
same request goes to him. He finds the reply that was remembered in the store together with what the request did there.
"""

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec

from freshet.errors import EngineUnavailable, FreshetError
from freshet.node.owners import Site
from freshet.observe.logs import BoundedLog
from freshet.ownership.leases import Leases, NotOwner

bounded_log = BoundedLog(logging.getLogger("freshet.ownership"))

REMEMBERED = 10_000  # requests of other nodes, and owners of names
PAUSE = 0.05  # seconds before a request is sent again
CHECKS = 8  # in the time of a lease: how often who waits for a reply asks who the owner is

Serve = Callable[[str, str, bytes, bool], Awaitable[bytes]]
"""Carries out a request that this node owns: the name, the request's id, its body, and whether it may have been carried
out before. Raises `NotOwner` when nothing was done, because the name is another's."""


class ForwardedRequest(msgspec.Struct, array_like=True, frozen=True):
    name: str
    id: str
    body: bytes
    again: bool


class ForwardedReply(msgspec.Struct, array_like=True, frozen=True):
    """owner: whether the node that was asked owns the name. unavailable: why it could not be done; empty: it was."""

    owner: bool
    body: bytes = b""
    unavailable: str = ""


class Forwarding:
    """kind: of the requests on the bus. ttl: of the leases, seconds."""

    def __init__(self, node: Site, leases: Leases, kind: str, serve: Serve, ttl: float) -> None:
        self._node = node
        self._leases = leases
        self._kind = kind
        self._serve = serve
        self._check = ttl / CHECKS
        self._owners: OrderedDict[str, str] = OrderedDict()  # of names, as far as this node knows
        self._served: OrderedDict[str, asyncio.Task[ForwardedReply]] = OrderedDict()  # by the requests' ids
        node.bus.handlers[kind] = self._forwarded

    async def call(self, name: str, body: bytes, timeout: float, id: str = "") -> bytes:  # noqa: ASYNC109 - of the reply
        """The reply of the owner, which this node becomes if there is none.

        timeout: seconds. id: the request's; empty: a new one. Raises `EngineUnavailable`, and `StoreUnavailable` of the
        owner as such: then nobody knows whether it was done.
        """
        id, again = id or secrets.token_hex(12), False
        clock = self._node.clock
        end = clock.monotonic() + timeout
        while True:
            owner = self._owners.get(name) or await self._leases.acquire(name)
            try:
                if owner == self._node.id:
                    return await self._serve(name, id, body, again)
                self._note(name, owner)
                return await self._ask(owner, ForwardedRequest(name, id, body, again), end - clock.monotonic())
            except NotOwner:
                self._owners.pop(name, None)
            again = True
            if clock.monotonic() >= end:
                raise EngineUnavailable(f"no node owned {name!r} for long enough to reply")
            await asyncio.sleep(PAUSE)

    def knows(self, name: str) -> bool:
        """Whether this node has sent requests to another one that owned the name."""
        return name in self._owners

    def doubt(self, name: str) -> None:
        """Whoever owned it may be gone: the engine is asked, before the next request is sent."""
        self._owners.pop(name, None)

    def _note(self, name: str, owner: str) -> None:
        self._owners[name] = owner
        self._owners.move_to_end(name)
        if len(self._owners) > REMEMBERED:
            self._owners.popitem(last=False)

    async def _ask(self, owner: str, request: ForwardedRequest, timeout: float) -> bytes:  # noqa: ASYNC109 - of the reply
        """The reply of another node. Raises `NotOwner` when it does not own the name, or no longer."""
        body = msgspec.msgpack.encode(request)
        asking = self._node.tasks.start(
            self._request(owner, body, timeout), "ownership: forward a request", may_fail=False
        )
        try:
            while True:
                done, _ = await asyncio.wait([asking], timeout=self._check)
                if done:
                    break
                if await self._leases.acquire(request.name) != owner:
                    raise NotOwner(request.name)
        finally:
            asking.cancel()
        reply = asking.result()
        if not reply.owner:
            raise NotOwner(request.name)
        if reply.unavailable:
            raise EngineUnavailable(reply.unavailable)
        return reply.body

    async def _request(self, owner: str, body: bytes, timeout: float) -> ForwardedReply:  # noqa: ASYNC109 - of the reply
        try:
            reply = await self._node.bus.request(owner, self._kind, body, timeout)
        except EngineUnavailable as why:
            bounded_log.warning(
                "no reply", "ownership: no reply from node %s (%s), whoever owns it is asked", owner, why
            )
            return ForwardedReply(owner=False)
        return msgspec.msgpack.decode(reply, type=ForwardedReply)

    # ------------------------------------------------------------------------------------------------------ the owner

    async def _forwarded(self, body: bytes) -> bytes:
        """A request of another node. One that comes again gets the reply to the first."""
        request = msgspec.msgpack.decode(body, type=ForwardedRequest)
        serving = self._served.get(request.id)
        if serving is None:
            work = self._serve_forwarded(request)
            serving = self._node.tasks.start(work, f"ownership: {self._kind}", may_fail=False)
            self._served[request.id] = serving
            if len(self._served) > REMEMBERED:
                self._served.popitem(last=False)
        reply = await asyncio.shield(serving)
        if not reply.owner:
            self._served.pop(request.id, None)
        return msgspec.msgpack.encode(reply)

    async def _serve_forwarded(self, request: ForwardedRequest) -> ForwardedReply:
        try:
            self._leases.fence(request.name)
            return ForwardedReply(True, await self._serve(request.name, request.id, request.body, request.again))
        except NotOwner:
            return ForwardedReply(owner=False)
        except FreshetError as why:
            return ForwardedReply(True, unavailable=str(why) or type(why).__name__)
