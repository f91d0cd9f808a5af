"""What the engine asks of JetStream: append to a subject, its last message, all that it holds, and to drop some.

Requests go to the leader of a stream, so that what is read is never older than what was acknowledged before.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec

from freshet.engines.nats.connection import NatsConnection, NoResponders
from freshet.engines.nats.messages import BrokerMessage
from freshet.errors import EngineUnavailable
from freshet.runtime.tasks import Tasks

_NO_MESSAGE, _NO_STREAM, _NAME_IN_USE, _WRONG_LAST = 10037, 10059, 10058, 10071
_NANOSECONDS = 1_000_000_000
REPEATS = 300 * _NANOSECONDS  # for which a message id is known again
TRIES = 3
IDLE = 0.2  # seconds after which a consumer that has sent all that there is says so
_HEARTBEAT = b"NATS/1.0 100"

T = TypeVar("T")


class _ErrorReply(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _MessageReply(msgspec.Struct):
    subject: str
    seq: int
    time: str
    data: bytes = b""  # base 64 in JSON


class _ApiReply(msgspec.Struct):
    """All that we look at in JetStream's replies."""

    error: _ErrorReply | None = None
    seq: int = 0
    duplicate: bool = False
    message: _MessageReply | None = None
    config: dict[str, Any] = {}
    created: str = ""
    num_pending: int = 0
    name: str = ""
    purged: int = 0


class JetStreamError(Exception):
    """An error that JetStream replied. code: which; see the constants above."""

    def __init__(self, error: _ErrorReply) -> None:
        super().__init__(f"JetStream refused: {error.description} ({error.err_code})")
        self.code = error.err_code


class StoredMessage(NamedTuple):
    """seq: its sequence number in the stream. time: seconds since 1970, by the server's clock."""

    subject: str
    seq: int
    time: float
    data: bytes


class ToAppend(NamedTuple):
    """after: the sequence number of the last message of that subject, 0 for none; None: whatever it is.

    key: of two with the same within the stream's duplicate window, the second is not stored.
    """

    subject: str
    data: bytes
    after: int | None = None
    key: str | None = None

    def headers(self) -> bytes:
        headers = b"" if self.after is None else b"Nats-Expected-Last-Subject-Sequence: %d\r\n" % self.after
        return headers if self.key is None else headers + b"Nats-Msg-Id: %b\r\n" % self.key.encode()


class Appended(NamedTuple):
    """seq: of the message; with `duplicate`, of the first one with its key."""

    seq: int
    duplicate: bool


class BrokerStream:
    """One stream, which is made when it does not exist.

    form: its configuration, as in JetStream's API. ages: for how many seconds messages are kept; `keep_for` raises it.
    All methods raise EngineUnavailable.
    """

    def __init__(self, connection: NatsConnection, name: str, ages: float, form: dict[str, Any]) -> None:
        self.name = name
        self.ages = ages
        self._connection = connection
        self._form = {"retention": "limits", "discard": "old", **form}
        self._made_on = 0  # which of the connections
        self._making: asyncio.Task[None] | None = None
        self._tasks = Tasks()

    async def stop(self) -> None:
        await self._tasks.stop()

    async def append(
        self, subject: str, data: bytes, after: int | None = None, key: str | None = None
    ) -> Appended | None:
        """None: `after` is not the last of that subject. See `ToAppend`."""
        headers = ToAppend(subject, data, after, key).headers()
        try:
            reply = await self._on_stream(lambda: self._append(subject, data, headers))
        except JetStreamError as error:
            raise EngineUnavailable(str(error)) from None
        return _appended(reply)

    async def append_all(self, messages: Sequence[ToAppend]) -> list[Appended | None]:
        """Append many, in one round trip; they are stored one by one, and some may be when this raises."""
        try:
            replies = await self._on_stream(lambda: self._append_all(messages))
        except JetStreamError as error:
            raise EngineUnavailable(str(error)) from None
        return [_appended(reply) for reply in replies]

    async def last(self, subject: str) -> StoredMessage | None:
        """The newest message of a subject."""
        return await self._get({"last_by_subj": subject})

    async def at(self, seq: int) -> StoredMessage | None:
        """The message of that sequence number."""
        return await self._get({"seq": seq})

    async def read(self, subject: str, upto: int = 0) -> tuple[float, list[StoredMessage]]:
        """The server's time, and the messages of a subject, which may have wildcards, the oldest first.

        upto: the sequence number of one that has to be among them, unless it is gone by then.
        """
        for _ in range(TRIES):
            now, found = await self._read(subject)
            if not upto or (found and found[-1].seq >= upto) or await self.at(upto) is None:
                return now, found
        raise EngineUnavailable("JetStream does not find what it holds")  # a copy that is behind the leader

    async def purge(self, subject: str, before: int = 0) -> int:
        """Drop the messages of a subject, up to the sequence number `before` if there is one. How many these were."""
        what: dict[str, Any] = {"filter": subject, **({"seq": before} if before else {})}
        return (await self._call_on_stream(f"STREAM.PURGE.{self.name}", what)).purged

    def trim(self, subject: str, keep: int) -> None:
        """Have all but the newest of a subject dropped, in a while; that may fail, and nobody knows."""
        body = msgspec.json.encode({"filter": subject, "keep": keep})
        self._connection.publish_unconfirmed(f"$JS.API.STREAM.PURGE.{self.name}", body)

    async def make(self) -> None:
        """Also raises EngineUnavailable when it exists in another form than we need."""
        if self._making is None:
            self._making = self._tasks.start(self._make(), f"nats: make the stream {self.name}")
            self._making.add_done_callback(self._made)
        await asyncio.shield(self._making)

    async def keep_for(self, ages: float) -> None:
        """Keep messages for `ages` seconds at least."""
        if ages <= self.ages:
            return
        await self.make()
        config = await self._config()
        if _nanoseconds(ages) > config.get("max_age", 0):
            await self._call_on_stream(f"STREAM.UPDATE.{self.name}", {**config, "max_age": _nanoseconds(ages)})
        self.ages = ages

    # --------------------------------------------------------------------------------------------------- its existence

    def _made(self, making: asyncio.Task[None]) -> None:
        self._making = None

    async def _make(self) -> None:
        connects = self._connection.connects
        form = {"name": self.name, "max_age": _nanoseconds(self.ages), **self._form}
        try:
            await self._call(f"STREAM.CREATE.{self.name}", form)
        except JetStreamError as error:
            if error.code != _NAME_IN_USE:
                raise EngineUnavailable(str(error)) from None
            config = await self._config()
            for name in ("subjects", "republish"):
                if name in self._form and config.get(name) != self._form[name]:
                    raise EngineUnavailable(f"the stream {self.name} of NATS has other {name} than ours") from None
            self.ages = max(self.ages, config.get("max_age", 0) / _NANOSECONDS)
        self._made_on = connects

    async def _config(self) -> dict[str, Any]:
        """Its configuration in the server."""
        try:
            return (await self._call(f"STREAM.INFO.{self.name}", None)).config
        except JetStreamError as error:
            raise EngineUnavailable(str(error)) from None

    async def _on_stream(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` gives; the stream is made if it does not exist. Raises JetStreamError too.

        Not asked first and made then: nats-server 2.9 crashes when a message is asked for while its stream is made.
        """
        if self._made_on == self._connection.connects:
            try:
                return await ask()
            except NoResponders:
                pass
            except JetStreamError as error:
                if error.code != _NO_STREAM:
                    raise
        async with self._connection.deadline():
            await self.make()
            return await ask()

    # -------------------------------------------------------------------------------------------------------- requests

    async def _append(self, subject: str, data: bytes, headers: bytes) -> _ApiReply:
        return _known_stream(_decode((await self._connection.request(subject, data, headers)).data))

    async def _append_all(self, messages: Sequence[ToAppend]) -> list[_ApiReply]:
        send = self._connection.send_request
        sent = [send(it.subject, it.data, it.headers()) for it in messages]
        return [_known_stream(_decode(reply.data)) for reply in await self._connection.replies(sent)]

    async def _get(self, which: dict[str, Any]) -> StoredMessage | None:
        body = msgspec.json.encode(which)
        try:
            reply = await self._on_stream(lambda: self._request(f"$JS.API.STREAM.MSG.GET.{self.name}", body))
        except JetStreamError as error:
            if error.code == _NO_MESSAGE:
                return None
            raise EngineUnavailable(str(error)) from None
        it = reply.message
        return StoredMessage(it.subject, it.seq, _seconds(it.time), it.data) if it is not None else None

    async def _read(self, subject: str) -> tuple[float, list[StoredMessage]]:
        """By a consumer of the moment, which sends all that there is.

        What is removed behind its count does not come; a heartbeat says that nothing more will.
        """
        found: list[StoredMessage] = []
        pending = -1  # how many the consumer began with

        def request(inbox: str) -> tuple[str, bytes]:
            config = {
                "deliver_subject": inbox,
                "deliver_policy": "all",
                "filter_subject": subject,
                "ack_policy": "none",
                "replay_policy": "instant",
                "inactive_threshold": 5 * _NANOSECONDS,
                "idle_heartbeat": _nanoseconds(IDLE),
                "mem_storage": True,
                "num_replicas": 1,
            }
            body = {"stream_name": self.name, "config": config}
            return f"$JS.API.CONSUMER.CREATE.{self.name}", msgspec.json.encode(body)

        def is_last(message: BrokerMessage) -> bool:
            nonlocal pending
            if message.headers.startswith(_HEARTBEAT):
                return pending >= 0
            if message.reply.startswith("$JS.ACK."):
                found.append(_delivered(message))
            elif not message.headers:  # the reply, which may come after the first of them
                reply = _decode(message.data)
                pending = 0 if reply.error is not None else reply.num_pending
            return 0 <= pending <= len(found)

        async def consume() -> _ApiReply:
            return _checked((await self._connection.collect(request, is_last)).data)

        try:
            reply = await self._on_stream(consume)
        except JetStreamError as error:
            raise EngineUnavailable(str(error)) from None
        self._connection.publish_unconfirmed(f"$JS.API.CONSUMER.DELETE.{self.name}.{reply.name}", b"")
        return _seconds(reply.created), found

    async def _call_on_stream(self, what: str, body: dict[str, Any] | None) -> _ApiReply:
        try:
            return await self._on_stream(lambda: self._call(what, body))
        except JetStreamError as error:
            raise EngineUnavailable(str(error)) from None

    async def _call(self, what: str, body: dict[str, Any] | None) -> _ApiReply:
        return await self._request(f"$JS.API.{what}", b"" if body is None else msgspec.json.encode(body))

    async def _request(self, subject: str, data: bytes) -> _ApiReply:
        return _checked((await self._connection.request(subject, data)).data)


_decoder = msgspec.json.Decoder(_ApiReply)


def _decode(data: bytes) -> _ApiReply:
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError:
        return _ApiReply(_ErrorReply(description="its reply is not of the form that we know"))


def _checked(data: bytes) -> _ApiReply:
    """Raises JetStreamError."""
    reply = _decode(data)
    if reply.error is not None:
        raise JetStreamError(reply.error)
    return reply


def _known_stream(reply: _ApiReply) -> _ApiReply:
    """Raises JetStreamError when the stream does not exist; all other errors are `_appended`'s."""
    if reply.error is not None and reply.error.err_code == _NO_STREAM:
        raise JetStreamError(reply.error)
    return reply


def _appended(reply: _ApiReply) -> Appended | None:
    if reply.error is None:
        return Appended(reply.seq, reply.duplicate)
    if reply.error.err_code == _WRONG_LAST:
        return None
    raise EngineUnavailable(str(JetStreamError(reply.error)))


def _delivered(message: BrokerMessage) -> StoredMessage:
    """Of `$JS.ACK.[domain.account.]stream.consumer.deliveries.sequence.delivery.nanoseconds.pending`."""
    words = message.reply.split(".")
    seq, time = (words[5], words[7]) if len(words) == 9 else (words[7], words[9])
    return StoredMessage(message.subject, int(seq), int(time) / _NANOSECONDS, message.data)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _nanoseconds(seconds: float) -> int:
    return int(seconds * _NANOSECONDS)
