"""One Freshet process, as its commands see it: the parts that `app.py` wired, and what happens by itself."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Literal

import msgspec

from freshet.config import Config
from freshet.dialects.base import Dialect
from freshet.endpoints.socketio import resume as recovery
from freshet.endpoints.socketio.namespaces import Namespace
from freshet.engines.base import Engine, Receiver
from freshet.errors import Disconnect, EngineUnavailable, FreshetError
from freshet.hub.catch_up import Reading
from freshet.hub.hub import Hub
from freshet.model.commands import Command
from freshet.model.events import Unsubscribed
from freshet.model.frame import Handshake
from freshet.model.log import Position, PublishOptions
from freshet.node.bus import Peers
from freshet.observe.counts import Counts, add
from freshet.policy.tokens import TokenVerifier
from freshet.rules.hooks import Hook
from freshet.rules.rules import ChannelRules
from freshet.runtime.admission import Admission
from freshet.runtime.clock import SYSTEM, Clock
from freshet.runtime.wheel import TICK, Wheel
from freshet.session.outbox import Outbox, Turn
from freshet.session.session import Session
from freshet.session.subscription import Subscription

log = logging.getLogger("freshet")

RUNNING: "set[Node]" = set()
"""The nodes of this process, so that a server that ends can tell their clients first."""

MOVED = 500  # clients per second that are sent away at least, when a node ends
STEP = 0.1  # seconds

Run = Callable[["Node", Session, Command], Coroutine[Any, Any, None]]
Join = Callable[["Node", Session, str], Coroutine[Any, Any, None]]


class Welcome(msgspec.Struct, frozen=True):
    """What the hook `on_connect` may return: who the client is, and what it starts with.

    user: replaces the token's. info: what others in a channel see of it. channels: it is subscribed to them by the
    server. data: goes to the client with the reply. expires: epoch seconds.
    """

    user: str | None = None
    info: Any = None
    channels: list[str] = []
    data: Any = None
    expires: float | None = None


class Statistics(msgspec.Struct, frozen=True):
    """What a node holds at this moment."""

    clients: int
    users: int
    channels: int
    subscriptions: int


class Hooks:
    """The user's functions that belong to no channel rule."""

    __slots__ = ("api", "connect", "disconnect", "message", "namespaces", "rpc")

    def __init__(self) -> None:
        self.connect: Hook | None = None
        self.disconnect: Hook | None = None
        self.message: Hook | None = None
        self.rpc: dict[str, Hook] = {}  # of clients
        self.api: dict[str, Hook] = {}  # of callers of the server API
        self.namespaces: dict[str, Namespace] = {}  # of Socket.IO


class Node:
    """tokens: None when there is no secret, so that no token can be right. api_key: what the server API asks for.

    Implements `session.Host`.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        rules: ChannelRules,
        hooks: Hooks,
        tokens: TokenVerifier | None,
        api_key: str | None,
        run: Run,
        *,
        join: Join,
        clock: Clock = SYSTEM,
    ) -> None:
        self.config = config
        self.limits = config.limits
        self.timing = config.timing
        self.compression = config.websocket.compression
        self.engine = engine
        self.rules = rules
        self.hooks = hooks
        self.tokens = tokens
        self.api_key = api_key
        self.id = secrets.token_hex(8)
        self.peers = Peers(self.id, engine)
        self.turn = Turn()
        self.counts = Counts()
        self.wheel = Wheel(clock, min(TICK, self.timing.pong_timeout / 4), self.counts.late)
        self.hub = Hub(engine, self.turn, self.counts)
        self.reading = Reading(engine)
        self.admission = Admission(self.limits.connects_per_second, self.limits.connects_burst, clock)
        self.state: Literal["starting", "ready", "draining"] = "starting"
        self.now = clock.wall
        self._began = clock.monotonic()
        self._run = run
        self._join = join
        self._open: set[Session] = set()
        self._posting: dict[str, Session] = {}
        self._recoverable: dict[str, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.engine.start(self.id, Receiver(self.hub.deliver, self.hub.suspect, self.peers.hear))
        self.wheel.start()
        await self.peers.announce()
        if self.engine.shared:
            self._watching = asyncio.get_running_loop().create_task(self._watch())
        RUNNING.add(self)
        self.state = "ready"

    async def stop(self) -> None:
        """Send every client away with 3001, then let go of the engine."""
        RUNNING.discard(self)
        self.state = "draining"
        self.dismiss()
        await asyncio.sleep(0)  # the turn in which they are told
        self.wheel.stop()
        if self._watching is not None:
            self._watching.cancel()
        self.spawn(self.peers.announce(end=True))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.timing.close_timeout)
        await self.peers.stop()
        await self.engine.stop()

    async def _watch(self) -> None:
        """What came is compared with the logs, now and then: they know what was lost without a trace."""
        while True:
            await asyncio.sleep(self.timing.position_check)
            self.hub.suspect("")
            await self.peers.announce()

    async def drain(self) -> None:
        """As `dismiss`, at a pace at which other nodes, or this one when it is back, can take them."""
        self.state = "draining"
        waiting = list(self._open)
        batch = max(MOVED * STEP, len(waiting) * STEP / self.timing.drain)
        for number in range(0, len(waiting), round(batch)):
            for session in waiting[number : number + round(batch)]:
                session.close(Disconnect.shutdown())
            await asyncio.sleep(STEP if number + batch < len(waiting) else 0)
        self.dismiss()

    def dismiss(self) -> None:
        """Send every client away: they come back, elsewhere or when there is a server again."""
        for session in list(self._open):
            session.close(Disconnect.shutdown())

    def uptime(self) -> float:
        """Seconds."""
        return self.wheel.clock.monotonic() - self._began

    def statistics(self) -> Statistics:
        subscriptions = self.hub.channels()
        return Statistics(
            clients=sum(1 for session in self._open if session.connected),
            users=len(self.hub.users),
            channels=len(subscriptions),
            subscriptions=sum(subscriptions.values()),
        )

    def sessions(self) -> Iterable[Session]:
        """All that are open, also those that have not connected yet."""
        return self._open

    def open(
        self, dialect: Dialect, handshake: Handshake, outbox: Outbox | None = None, *, posts: bool = False
    ) -> Session:
        """outbox: what it shares with others; None: one of its own. posts: see `Session.post`."""
        session = Session(self, dialect, outbox or Outbox(self.turn, self.limits.outbox), handshake)
        self._open.add(session)
        if posts:
            session.post = secrets.token_urlsafe(18)
            self._posting[session.post] = session
        return session

    def admits(self) -> int:
        """Seconds after which a new client is to come again, here or elsewhere; 0: it may come in now."""
        return 1 if self.state == "draining" else self.admission.wait()

    def posting(self, post: str) -> Session | None:
        """The session of which requests of their own bring what its client says."""
        return self._posting.get(post)

    def namespace_of(self, session: Session) -> Namespace | None:
        """The Socket.IO namespace of a session; None for other dialects."""
        return self.hooks.namespaces.get(session.dialect.namespace)

    # ---------------------------------------------------------------------------------------------------------- Host

    def run(self, session: Session, command: Command) -> Coroutine[Any, Any, None]:
        return self._run(self, session, command)

    async def join(self, session: Session, channel: str) -> None:
        await self._join(self, session, channel)
        await self.remember(session)

    async def leave(self, session: Session, channel: str) -> None:
        await self.unsubscribe(session, channel, Unsubscribed(channel))
        await self.remember(session)

    async def remember(self, session: Session) -> None:
        """Keep what its client needs to go on after a cut, if it may."""
        namespace = self.namespace_of(session)
        if session.pid and namespace is not None and not session.ended:
            await recovery.remember(self.engine, session, namespace.recovery)

    def forget(self, session: Session) -> None:
        if session.pid:
            pid, session.pid = session.pid, ""
            self._recoverable.pop(pid, None)
            self.spawn(recovery.forget(self.engine, pid))

    def claim(self, session: Session, pid: str) -> None:
        """The client of `pid` is this session from now on."""
        if self._recoverable.get(pid) is not session:
            self.dispossess(pid)
        session.pid = pid
        self._recoverable[pid] = session

    def dispossess(self, pid: str) -> None:
        """The client of `pid` is another session: one that still has it here, on a line that is dead, ends."""
        before = self._recoverable.pop(pid, None)
        if before is not None:
            before.pid = ""
            before.close(Disconnect.force_reconnect())
            before.end(Disconnect.force_reconnect())

    def visited(self, session: Session, now: float) -> float:
        wall, grace = self.now(), self.timing.expiry_grace
        # A client that is present is seen again in time, whenever it came into a channel.
        due = min(self.timing.ping_interval, self.timing.presence_ttl / 2)
        if session.expires:
            if wall >= session.expires + grace:
                session.close(Disconnect.expired())
                return due
            due = min(due, session.expires + grace - wall)
        present = False
        for channel, subscription in list(session.subscriptions.items()):
            present = present or subscription.present
            if subscription.expires:
                if wall >= subscription.expires + grace:
                    self.spawn(self.unsubscribe(session, channel, Unsubscribed(channel, 2501, "subscription expired")))
                else:
                    due = min(due, subscription.expires + grace - wall)
        if session.pid:
            self.spawn(self.remember(session))
        if present:
            self.spawn(self._still_present(session))
        return max(due, 0.1)

    def ended(self, session: Session) -> None:
        self._open.discard(session)
        self._posting.pop(session.post, None)
        if session.ended is not None and not session.ended.reconnect:
            self.forget(session)
        elif self._recoverable.get(session.pid) is session:
            del self._recoverable[session.pid]
        if not session.connected:
            return
        if session.ended is not None:
            add(self.counts.ended, session.ended.code)
        self.hub.exit(session)
        for channel in session.subscriptions:
            self.hub.leave(session, channel)
        if self._disconnect_hook(session) or any(it.present for it in session.subscriptions.values()):
            self.spawn(self._after(session))

    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        """Give a publication to the engine. Raises as its `publish`."""
        try:
            position = await self.engine.publish(channel, data, options)
        except EngineUnavailable:
            self.counts.unpublished += 1
            raise
        self.counts.published += 1
        return position

    # ------------------------------------------------------------------------------------------------- in its own time

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something that no client waits for."""
        task = asyncio.get_running_loop().create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _guard(work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except FreshetError as error:
            log.warning("%r: %s", work, error)
        except Exception:
            log.exception("%r failed", work)

    async def unsubscribe(self, session: Session, channel: str, tell: Unsubscribed | None) -> Subscription | None:
        """End a subscription, wherever the wish comes from. `tell`: the news for a client that did not ask for it."""
        subscription = session.subscriptions.pop(channel, None)
        if subscription is None:
            return None
        self.hub.leave(session, channel)
        if tell is not None:
            session.tell(tell)
        if subscription.present:
            await self.engine.set_presence(channel, session.id, None)
        return subscription

    async def _still_present(self, session: Session) -> None:
        for channel, subscription in list(session.subscriptions.items()):
            if subscription.present and not session.ended:
                await self.engine.set_presence(channel, session.id, session.client_info(subscription.info))

    async def _after(self, session: Session) -> None:
        for channel, subscription in session.subscriptions.items():
            if subscription.present:
                await self.engine.set_presence(channel, session.id, None)
        if (hook := self._disconnect_hook(session)) is not None:
            await hook(session, why=session.ended)

    def _disconnect_hook(self, session: Session) -> Hook | None:
        namespace = self.namespace_of(session)
        return namespace.disconnect if namespace and namespace.disconnect else self.hooks.disconnect
