"""Connection state recovery: a client that was cut off resumes its session, and misses nothing.

What the client received is in the stamp that its events carry (where it stands in each room), and in the rooms' logs
is what it missed. What the server has to know beside is who it was and in which rooms: that is the last item of a small
log of its own, so that it is wherever the logs are, on any node and after a restart if the engine keeps them.
"""

import secrets
from urllib.parse import parse_qsl

import msgspec

from freshet.endpoints.socketio.withdrawn import Withdrawn
from freshet.engines.base import Engine
from freshet.errors import Disconnect
from freshet.model.log import History, Position, PublishOptions
from freshet.node.bus import Bus
from freshet.runtime.locks import Locks
from freshet.runtime.tasks import Tasks
from freshet.session.session import Session

TAKEOVER = "takeover"


def new_pid() -> str:
    """The secret with which a client resumes its session."""
    return secrets.token_urlsafe(18)


PID = len(new_pid())  # characters


class KeptRoom(msgspec.Struct, frozen=True, array_like=True):
    """position: where the session came in. expires, info: of its subscription, as in `Grant`."""

    position: Position
    expires: float
    info: bytes


class ResumeState(msgspec.Struct, frozen=True):
    namespace: str
    sid: str
    user: str
    rooms: dict[str, KeptRoom]


class Resumption:
    """The sessions of this node that can be resumed, by the secret `pid` in the record of each."""

    def __init__(self, engine: Engine, bus: Bus, tasks: Tasks, withdrawn: Withdrawn) -> None:
        self.withdrawn = withdrawn
        self._engine = engine
        self._bus = bus
        self._tasks = tasks
        self._by_pid: dict[str, Session] = {}
        self._locks = Locks[str]()  # by pid: what is kept is changed and read one after the other
        bus.handlers[TAKEOVER] = self._handle

    async def remember(self, session: Session) -> None:
        """Keep what is needed to go on, from now for as long as its namespace says. Raises EngineUnavailable."""
        pid = session.record.pid
        if not pid:
            return
        if not self._locks.take(pid):
            await self._locks.wait(pid)
        try:
            if session.record.pid == pid and not session.ended:
                held, namespace = session.subscriptions.items(), session.record.namespace
                rooms = {channel: KeptRoom(it.position, it.expires, bytes(it.info)) for channel, it in held}
                state = ResumeState(namespace.name, session.id, session.user, rooms)
                options = PublishOptions(history=History(1, namespace.recovery))
                await self._engine.publish(_channel(pid), msgspec.json.encode(state), options)
        finally:
            self._locks.release(pid)

    async def recall(self, pid: str, ttl: float) -> ResumeState | None:
        """What was kept, if it still is. Raises EngineUnavailable."""
        if len(pid) != PID:  # whose name would take room among the logs
            return None
        if not self._locks.take(pid):
            await self._locks.wait(pid)
        try:
            stream = await self._engine.history(_channel(pid), History(1, ttl), limit=1, reverse=True)
        finally:
            self._locks.release(pid)
        if not stream.publications or not stream.publications[0].data:
            return None
        try:
            return msgspec.json.decode(stream.publications[0].data, type=ResumeState)
        except msgspec.MsgspecError:  # a node of another version kept it: its client begins anew
            return None

    def forget(self, session: Session) -> None:
        """It is over for good: nothing is kept with which its client could go on."""
        pid, session.record.pid = session.record.pid, ""
        if pid:
            self._by_pid.pop(pid, None)
            self._tasks.start(self._remove(pid), "socket.io: forget a session")

    async def _remove(self, pid: str) -> None:
        if not self._locks.take(pid):
            await self._locks.wait(pid)
        try:
            await self._engine.remove_history(_channel(pid))
        finally:
            self._locks.release(pid)

    def unclaim(self, session: Session) -> None:
        """It is not the client's session after all; another one may be."""
        if self._by_pid.get(session.record.pid) is session:
            del self._by_pid[session.record.pid]
        session.record.pid = ""

    def claim(self, session: Session, pid: str) -> None:
        """The client of `pid` is this session from now on."""
        if self._by_pid.get(pid) is not session:
            self._evict(pid, moved=False)
        session.record.pid = pid
        self._by_pid[pid] = session

    async def take_over(self, pid: str) -> None:
        """Let the other nodes evict the session of `pid` that one of them may still have. Raises EngineUnavailable."""
        await self._bus.broadcast(TAKEOVER, pid.encode())

    def ended(self, session: Session) -> None:
        """A session is over: for good, or its client may resume it."""
        if session.ended is not None and not session.ended.reconnect:
            self.forget(session)
        elif self._by_pid.get(session.record.pid) is session:
            del self._by_pid[session.record.pid]

    def _evict(self, pid: str, *, moved: bool) -> None:
        """The client of `pid` has resumed: its session here, on a dead connection, ends. moved: on another node."""
        before = self._by_pid.pop(pid, None)
        if before is not None:
            before.record.pid = ""
            before.record.moved = moved
            before.close(Disconnect.force_reconnect())
            before.end(Disconnect.force_reconnect())

    async def _handle(self, body: bytes) -> bytes:
        self._evict(body.decode(errors="replace"), moved=True)
        return b""


def _channel(pid: str) -> str:
    return f"\0recovery:{pid}"  # no client can name it: a name of theirs is matched by a rule first


def positions(state: ResumeState, stamp: str) -> dict[str, Position]:
    """Where the client stands in each of its rooms: as it says, otherwise where it came in.

    Raises `Disconnect` for what is no stamp.
    """
    since = {channel: room.position for channel, room in state.rooms.items()}
    try:
        for channel, position in parse_qsl(stamp, max_num_fields=len(since)):
            epoch, _, offset = position.rpartition(":")
            if channel in since:
                since[channel] = Position(epoch, int(offset))
    except ValueError:
        raise Disconnect.bad_request("offset: expected what the last event brought") from None
    return since
