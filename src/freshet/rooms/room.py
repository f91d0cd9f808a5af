"""`Room`, what an application derives its rooms from, and what a room has: its store, and its clients' sessions."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

import msgspec

from freshet.config import KIB, MIB
from freshet.errors import Disconnect
from freshet.model.http import HttpRequest
from freshet.model.json_text import decode, encode
from freshet.model.log import Claims
from freshet.rooms.messages import Direct, Kept, RoomVisitor
from freshet.rooms.state import INTERNAL, INTERNAL_END, RoomState
from freshet.rules.hooks import as_payload

if TYPE_CHECKING:
    from freshet.rooms.step import RoomStep

STATE_SIZE = 16 * KIB
KEY_SIZE, VALUE_SIZE = 1 * KIB, 1 * MIB
TAGS, TAG_SIZE = 10, 256  # of a session; characters
FASTEST = 120  # ticks a second

AS_JSON = b"\xc1"  # with which no MessagePack begins

T = TypeVar("T")


class RoomStore:
    """What a room keeps: values by keys. Hooks write to it and read from it.

    All that a hook writes is one transaction, which is done when the hook ends: all of it or, if the hook raises or the
    store refuses, nothing. What the hook has broadcast and sent goes out after that. `commit` does so earlier.

    A value is anything that msgspec can write as MessagePack, and what pydantic models dump.
    """

    __slots__ = ("_step",)

    def __init__(self, step: "RoomStep") -> None:
        self._step = step

    @overload
    async def get(self, key: str, default: Any = None) -> Any: ...

    @overload
    async def get(self, key: str, default: T, *, type: type[T]) -> T: ...

    async def get(self, key: str, default: Any = None, *, type: Any = Any) -> Any:  # noqa: A002 - as in msgspec
        """The value of `key`, or `default`. type: what it is converted to.

        Raises msgspec.ValidationError for a value that does not fit, and `StoreUnavailable`.
        """
        data = await self._step.read(_checked(key))
        return default if data is None else _unpacked(data, type)

    async def put(self, key: str, value: Any) -> None:
        """Raises ValueError for a key or a value that is too large, TypeError for one that cannot be written."""
        data = _packed(value)
        if len(data) > VALUE_SIZE:
            raise ValueError(f"the value of {key!r}: at most {VALUE_SIZE} bytes, got {len(data)}")
        self._step.write(_checked(key), data)

    async def delete(self, *keys: str) -> None:
        """Without keys it deletes nothing; see `clear`."""
        for key in keys:
            self._step.write(_checked(key), None)

    async def clear(self) -> None:
        """Delete all that the room keeps, but not its alarm."""
        self._step.clear()

    async def list(self, prefix: str = "", *, after: str = "", limit: int = -1) -> dict[str, Any]:
        """Keys that begin with `prefix` and come behind `after`, with their values, in their order; at most `limit`."""
        found = await self._step.scan(prefix, after if prefix else max(after, INTERNAL_END), limit)
        return {key: _unpacked(data) for key, data in found}

    async def commit(self) -> None:
        """Make what was written so far durable, and let out what was sent so far, before the hook goes on.

        For a hook that is about to do what cannot be taken back, such as to charge a card.
        """
        await self._step.commit()


class RoomSession:
    """A client of a room, as the room's hooks get it: it may be connected to another node.

    id: the client's. user: its user's; empty: it is anonymous.

    state: up to 16 KiB that the room keeps for this client as long as it is subscribed, whatever becomes of the room
    meanwhile; None at first. tags: by which `Room.sessions` finds it, at most 10 of 256 characters. read_only: what it
    publishes is refused. All three are set by the room.
    """

    __slots__ = ("_step", "_visitor", "id", "user")

    def __init__(self, visitor: RoomVisitor, step: "RoomStep") -> None:
        self.id = visitor.client
        self.user = visitor.user
        self._visitor = visitor
        self._step = step

    def __repr__(self) -> str:
        return f"<RoomSession {self.id} user={self.user!r}>"

    @property
    def claims(self) -> Claims:
        """What its token says; empty without a token."""
        claims: Claims = decode(self._visitor.claims) if self._visitor.claims else {}
        return claims

    @property
    def info(self) -> Any:
        """What others in the channel see of it."""
        return decode(self._visitor.info) if self._visitor.info else None

    @property
    def state(self) -> Any:
        state = self._kept.state
        return _unpacked(state) if state else None

    @state.setter
    def state(self, value: Any) -> None:
        """Raises ValueError for one that is too large."""
        data = _packed(value)
        if len(data) > STATE_SIZE:
            raise ValueError(f"session.state: at most {STATE_SIZE} bytes, got {len(data)}")
        self._keep(state=data)

    @property
    def tags(self) -> frozenset[str]:
        return frozenset(self._kept.tags)

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        """Raises ValueError for too many, or one that is too long."""
        new = tuple(dict.fromkeys(tags))
        if len(new) > TAGS or any(not 0 < len(tag) <= TAG_SIZE for tag in new):
            raise ValueError(f"session.tags: at most {TAGS}, each of 1 to {TAG_SIZE} characters")
        self._keep(tags=new)

    @property
    def read_only(self) -> bool:
        return self._kept.read_only

    @read_only.setter
    def read_only(self, read_only: bool) -> None:
        self._keep(read_only=read_only)

    @property
    def _kept(self) -> Kept:
        return self._step.kept(self._visitor)

    def _keep(self, **changes: Any) -> None:
        kept = msgspec.structs.replace(self._kept, **changes)
        self._step.keep(msgspec.structs.replace(self._visitor, kept=kept))

    async def send(self, data: Any, *, tags: Mapping[str, str] | None = None) -> None:
        """Let this client alone have a publication in the room's channel, which is in no log."""
        payload, kind = as_payload(data)
        it = Direct(self._step.channel, self.id, payload, kind, dict(tags) if tags else None)
        self._step.send(self._visitor, it)

    async def disconnect(self, why: Disconnect | None = None) -> None:
        """Disconnect this client; without `why`, for good (3503)."""
        why = why or Disconnect.force_no_reconnect()
        self._step.send(self._visitor, Direct(self._step.channel, self.id, code=why.code, reason=why.reason))


class Room:
    """One of its kind for each channel that a pattern matches, in the whole cluster: see `Freshet.room`.

    Its hooks run one at a time, and each to its end before the next begins, whatever it awaits. It may keep what it
    likes in attributes; they are gone when nobody has said anything for a while (`rooms.idle`), when its node ends, and
    when a hook raises. Then `on_start` reads anew what `store` has kept; the clients stay connected.

    channel: its name. parameters: of its name. store: what it keeps. state: what all who are subscribed see of it, if
    its rule has the option `state`. timeout: seconds that each hook may take, after
    which it is cancelled and the room begins anew; None: `timing.hook_timeout`.
    """

    channel: str
    parameters: Mapping[str, str]
    store: RoomStore
    state: RoomState
    timeout: ClassVar[float | None] = None
    _step: "RoomStep"

    async def on_start(self) -> None:
        """Before anything else, when the room comes into memory."""

    async def on_join(self, session: RoomSession) -> None:
        """A client subscribes; raise `Refusal` to refuse it. It may also ask for `data`, what the client sent along."""

    async def on_leave(self, session: RoomSession) -> None:
        """A client is no longer subscribed. Not called for the clients of a node that died."""

    async def on_message(self, session: RoomSession, data: Any) -> Any:
        """What a client publishes in the channel, converted to the type of `data`; raise `Refusal` to refuse it.

        What it returns, as JSON, is the answer to a client that called the room: by an rpc whose method is the channel,
        or where its protocol acknowledges what it publishes.
        """

    async def on_request(self, request: HttpRequest) -> Any:
        """A request to `/rooms/{channel}`. The answer is an `HttpResponse`, or anything, which goes out as JSON."""

    async def on_tick(self) -> None:
        """So many times a second as `set_tick_rate` says."""

    async def on_change(self, session: RoomSession | None, key: str, data: Any) -> Any:
        """An entry of the state is about to be set, or removed (None): by a client, or by the server (no session).

        `data` is converted to its type; what is returned is set instead, unless it is None. Raise `Refusal` to refuse
        it. It may also ask for `removed`. Clients change the state of a room only if it has this hook.
        """

    async def on_alarm(self) -> None:
        """The alarm is due. If this raises it is called again, after 2 s, 4 s and so on, up to two minutes."""

    async def on_stop(self) -> None:
        """The room leaves memory in good order, because it is idle or its node ends. Not called after a crash."""

    async def broadcast(self, data: Any, *, tags: Mapping[str, str] | None = None) -> None:
        """Publish in the room's channel, once what this hook has written is durable."""
        payload, kind = as_payload(data)
        self._step.broadcast(payload, kind, tags)

    async def sessions(self, tag: str | None = None) -> list[RoomSession]:
        """The clients that are in the room now, on whichever node, in the order in which they came; those with a tag.

        The first call after the room has come into memory asks all nodes.
        """
        visitors = await self._step.visitors()
        return [RoomSession(it, self._step) for it in visitors if tag is None or tag in it.kept.tags]

    async def set_tick_rate(self, rate: float) -> None:
        """Have `on_tick` called `rate` times a second, until it is 0. Meanwhile the room stays in memory.

        A tick that would come while the one before waits or runs is left out. A room that comes into memory has none:
        it is for `on_start`, or for who joins. Raises ValueError for more than 120.
        """
        if not (math.isfinite(rate) and 0 <= rate <= FASTEST):
            raise ValueError(f"rate: expected 0 to {FASTEST} a second, got {rate}")
        self._step.set_tick_rate(rate)

    @property
    def now(self) -> float:
        """Epoch seconds, by the clock that alarms go by."""
        return self._step.now()

    async def set_alarm(self, seconds: float | None) -> None:
        """Have `on_alarm` called in so many seconds, at least once; it replaces the one before. None: not at all."""
        self._step.set_alarm(seconds)


def _checked(key: str) -> str:
    size = len(key.encode())
    if not 0 < size <= KEY_SIZE:
        raise ValueError(f"key: expected 1 to {KEY_SIZE} bytes, got {size}")
    if key.startswith(INTERNAL):
        raise ValueError("key: expected text that does not begin with the character 1")
    return key


def _packed(value: Any) -> bytes:
    """As MessagePack; what has half of a character in a text, of which that has no form, as JSON behind `AS_JSON`."""
    try:
        return msgspec.msgpack.encode(value, enc_hook=_dump)
    except UnicodeEncodeError:
        return AS_JSON + encode(value, _dump)


def _unpacked(data: bytes, kind: Any = Any) -> Any:
    return decode(data[1:], kind) if data[:1] == AS_JSON else msgspec.msgpack.decode(data, type=kind)


def _dump(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__qualname__} cannot be kept")
