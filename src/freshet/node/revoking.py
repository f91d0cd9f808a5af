"""Makes what is taken back known to all nodes, now and after a restart, and ends the sessions that rest on it.

A revocation is an item of a log of its own, so that it is wherever the logs are; and a broadcast, so that the other
nodes have it at once. They read the log as they start, and now and then, because a broadcast may be lost. What still
holds is written again before the log could lose it, by its size or by its time. Where there is no log (NATS without
JetStream), a node asks the others instead what they know.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from freshet.engines.base import REVOCATIONS, Engine
from freshet.errors import Disconnect, EngineUnavailable, Refusal
from freshet.model.events import Unsubscribed
from freshet.model.json_text import Reader
from freshet.model.log import NOWHERE, History, PublishOptions
from freshet.node.bus import Bus
from freshet.node.registry import Registry
from freshet.observe.logs import BoundedLog
from freshet.policy.revocations import ENTRIES, Revocation, Revocations, issued_at
from freshet.runtime.tasks import Tasks
from freshet.session.session import Session
from freshet.session.subscription import Issued

DAYS = 86_400  # seconds
REVOKE = "revoke"
ASK, KNOWN = "revocations", "revoked"  # what do the others know? that
PORTION = 1000  # revocations in one message
SIZE = 2 * ENTRIES  # items of the log
PAGE = 5000  # items that are read at once
SHORTEST, LONGEST = 1 * DAYS, 30 * DAYS  # that the log is kept behind its last item
RENEWED = 500  # items that are written again at once
CHUNK = 500  # sessions that are looked at in one turn of the loop

log = logging.getLogger("freshet.tokens")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Revocation).decode
_decode_all = msgspec.json.Decoder(list[Revocation]).decode


Unsubscribe = Callable[[Session, str, Unsubscribed], Awaitable[object]]


class Revoking:
    """One node's part in it. wall: seconds since 1970. interval: seconds between readings of the log.

    unsubscribe: ends a subscription; None: there are none.
    """

    def __init__(
        self,
        engine: Engine,
        bus: Bus,
        registry: Registry,
        known: Revocations,
        wall: Callable[[], float],
        interval: float,
        unsubscribe: Unsubscribe | None = None,
    ) -> None:
        self.known = known
        self._unsubscribe = unsubscribe
        self._engine = engine
        self._bus = bus
        self._registry = registry
        self._tasks = Tasks()
        self._wall = wall
        self._interval = interval
        self._log = BoundedLog(log)
        self._position = NOWHERE
        self._offsets: dict[str, int] = {}  # of what holds, in the log
        self._written = 0.0  # when this node last wrote to the log
        bus.handlers |= {REVOKE: self._told, ASK: self._asked, KNOWN: self._answered}

    async def start(self) -> None:
        """Read what is in force, before the first client comes."""
        await self._look()
        self._tasks.start(self._go_on(), "revocations: look")

    async def stop(self) -> None:
        await self._tasks.stop()

    async def revoke(self, it: Revocation) -> None:
        """Let it hold, on all nodes.

        Raises Refusal 106 when there are too many, and EngineUnavailable when the others may not know of it, or it may
        not outlast a restart; on this node it holds then.
        """
        if self.known.is_full:
            raise Refusal.limit_exceeded(f"at most {ENTRIES} hold at a time: revoke all that were issued before a time")
        self._hold(it)
        body = _encode(it)
        try:
            position = await self._engine.publish(REVOCATIONS, body, PublishOptions(history=self._keep()))
            self._offsets[it.id] = position.offset
            self._written = self._wall()
        finally:  # an engine that keeps no logs may still reach the other nodes
            await self._bus.broadcast(REVOKE, body)

    async def block(self, user: str, seconds: float) -> None:
        """Let nobody connect as `user` for so long. Raises as `revoke`."""
        await self.revoke(Revocation(new_id(), user=user, until=self._wall() + seconds, blocked=True))

    # ----------------------------------------------------------------------------------------------------- on this node

    def _hold(self, it: Revocation) -> None:
        self.known.add(it)
        if it.id in self.known:
            self._tasks.start(self._end_sessions(it), "revocations: end sessions")

    async def _end_sessions(self, it: Revocation) -> None:
        why = Disconnect(Disconnect.force_no_reconnect().code, "blocked")
        why, now = why if it.blocked else Disconnect.invalid_token("token revoked"), self._wall()
        for number, session in enumerate(list(self._registry), 1):
            if _concerns(it, session, now):
                session.close(why)
            elif self._unsubscribe is not None:
                for channel in _channels(it, session, now):
                    await self._unsubscribe(session, channel, Unsubscribed(channel, reason="token revoked"))
            if number % CHUNK == 0:
                await asyncio.sleep(0)

    async def _asked(self, body: bytes) -> bytes:
        known, node = list(self.known), body.decode()
        for start in range(0, len(known), PORTION):
            await self._bus.send(node, KNOWN, _encode(known[start : start + PORTION]))
        return b""

    async def _answered(self, body: bytes) -> bytes:
        for it in _decode_all(body):
            if it.id not in self.known:
                self._hold(it)
        return b""

    async def _told(self, body: bytes) -> bytes:
        self._hold(_decode(body))
        return b""

    # ---------------------------------------------------------------------------------------------------------- the log

    def _keep(self) -> History:
        """As long as anything holds, within bounds: one engine keeps all logs as long as the longest."""
        now = self._wall()
        longest = max((LONGEST if not it.until else it.until - now for it in self.known), default=0.0)
        return History(SIZE, min(LONGEST, max(SHORTEST, longest)))

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._look()

    async def _look(self) -> None:
        """What is new in the log; and what has to be written again."""
        try:
            await self._read()
            self.known.sweep()
            await self._renew()
        except EngineUnavailable as why:
            self._log.warning(
                "read",
                "the revocations in the log cannot be read (%s), tried again in %g s: until then this node knows those "
                "that it heard of, and asks the other nodes for theirs",
                why,
                self._interval,
            )
            with suppress(EngineUnavailable):  # whoever cannot be asked is asked again
                await self._bus.broadcast(ASK, self._bus.node.encode())

    async def _read(self) -> None:
        keep = self._keep()
        while True:
            since = self._position if self._position != NOWHERE else None
            publications, position = await self._engine.history(REVOCATIONS, keep, since, PAGE)
            if since is not None and position.epoch != since.epoch:  # it was lost, and is another one
                self._position, self._offsets = NOWHERE, {}
                continue
            for publication in publications:
                it = _decode(publication.data)
                self._offsets[it.id] = publication.offset
                if it.id not in self.known:
                    self._hold(it)
            last = publications[-1].offset if publications else position.offset
            self._position = position._replace(offset=last)
            if last >= position.offset:
                return

    async def _renew(self) -> None:
        """Write again what the log has lost, or is about to lose."""
        for id in [id for id in self._offsets if id not in self.known]:
            del self._offsets[id]
        keep = self._keep()
        least = self._position.offset - SIZE * 3 // 4
        old = [it for it in self.known if self._offsets.get(it.id, -1) <= least or it.id not in self._offsets]
        if not old and len(self.known) and self._wall() - self._written > keep.ttl / 2:
            old = [next(iter(self.known))]
        for it in old[:RENEWED]:
            position = await self._engine.publish(REVOCATIONS, _encode(it), PublishOptions(history=keep))
            self._offsets[it.id] = position.offset
            self._written = self._wall()


class _Told(msgspec.Struct):
    """What of a session's claims a revocation is about; they have been checked."""

    sub: str = ""
    jti: str | None = None
    iat: float | None = None


_told = Reader(_Told)


def _concerns(it: Revocation, session: Session, now: float) -> bool:
    """Whether a session rests on what was taken back. One without a token is asked again who it is."""
    if it.blocked:
        return session.user == it.user
    claims = _told(session.token_claims) if session.token_claims else _Told(session.user)
    return _covers(it, Issued(claims.jti, claims.iat), now, claims.sub, session.user)


def _covers(it: Revocation, issued: Issued, now: float, *users: str) -> bool:
    if it.token:
        return issued.token == it.token
    return (not it.user or it.user in users) and issued_at(issued.at, now) <= it.before


def _channels(it: Revocation, session: Session, now: float) -> list[str]:
    """Those in which it is, or is about to be, by a token of their own that was taken back."""
    if it.blocked:
        return []
    entering = {channel: entry.subscription for channel, entry in (session.reservations or {}).items()}
    return [
        channel
        for channel, subscription in {**session.subscriptions, **entering}.items()
        if subscription.issued is not None and _covers(it, subscription.issued, now, session.user)
    ]


def new_id() -> str:
    return secrets.token_urlsafe(9)
