"""What the engine asks of JetStream: append to a subject, its last message, all that it holds, and to let go of some.

Requests go to the leader of a stream, so that what is read is never older than what was acknowledged.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from freshet.engines.nats.connection import Message
from freshet.engines.nats.link import Link, NobodyAnswers
from freshet.errors import EngineUnavailable

_NO_MESSAGE, _NO_STREAM, _NAME_IN_USE, _WRONG_LAST = 10037, 10059, 10058, 10071
_NANOSECONDS = 1_000_000_000
REPEATS = 300 * _NANOSECONDS  # for which a message id is known again
TRIES = 3


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Stored(msgspec.Struct):
    subject: str
    seq: int
    time: str
    data: bytes = b""  # base 64 in JSON


class _Reply(msgspec.Struct):
    """All that we look at in JetStream's answers."""

    error: _Error | None = None
    seq: int = 0
    duplicate: bool = False
    message: _Stored | None = None
    config: dict[str, Any] = {}
    created: str = ""
    num_pending: int = 0
    name: str = ""
    purged: int = 0


class Refused(Exception):
    """code: which error JetStream answered."""

    def __init__(self, error: _Error) -> None:
        super().__init__(f"JetStream refused: {error.description} ({error.err_code})")
        self.code = error.err_code


class Stored(NamedTuple):
    """seq: its place in the stream. time: seconds since 1970, by the server's clock."""

    subject: str
    seq: int
    time: float
    data: bytes


class Appended(NamedTuple):
    seq: int
    duplicate: bool


class Stream:
    """One stream, which is made when it is not there.

    form: its configuration, as in JetStream's API. ages: for how many seconds messages are kept; `keep_for` raises it.
    """

    def __init__(self, link: Link, name: str, ages: float, form: dict[str, Any]) -> None:
        self.name = name
        self.ages = ages
        self._link = link
        self._form = {"retention": "limits", "discard": "old", **form}
        self._made_on = 0  # of the link's lines
        self._making: asyncio.Task[None] | None = None

    async def append(
        self, subject: str, data: bytes, after: int | None = None, key: str | None = None
    ) -> Appended | None:
        """None: `after` is not the place of the last message of that subject (0: there is none).

        key: of two with the same within the stream's duplicate window, the second is not stored; the answer is the
        place of the first. Raises EngineUnavailable.
        """
        headers = b"" if after is None else b"Nats-Expected-Last-Subject-Sequence: %d\r\n" % after
        if key is not None:
            headers += b"Nats-Msg-Id: %b\r\n" % key.encode()
        try:
            reply = await self._made(lambda: self._request(subject, data, headers))
        except Refused as error:
            if error.code == _WRONG_LAST:
                return None
            raise EngineUnavailable(str(error)) from None
        return Appended(reply.seq, reply.duplicate)

    async def last(self, subject: str) -> Stored | None:
        """The newest message of a subject."""
        return await self._get({"last_by_subj": subject})

    async def at(self, seq: int) -> Stored | None:
        return await self._get({"seq": seq})

    async def read(self, subject: str, upto: int = 0) -> tuple[float, list[Stored]]:
        """The server's time, and the messages of a subject, which may have wildcards, the oldest first.

        upto: the place of one that has to be among them, unless it is gone by then. Raises EngineUnavailable.
        """
        for _ in range(TRIES):
            now, found = await self._read(subject)
            if not upto or (found and found[-1].seq >= upto) or await self.at(upto) is None:
                return now, found
        raise EngineUnavailable("JetStream does not find what it holds")  # a copy that is behind the leader

    async def purge(self, subject: str, before: int = 0) -> int:
        """Let go of the messages of a subject, up to that place if one is told. The answer is how many these were."""
        what: dict[str, Any] = {"filter": subject, **({"seq": before} if before else {})}
        reply = await self._ask(f"STREAM.PURGE.{self.name}", what)
        return reply.purged

    def trim(self, subject: str, keep: int) -> None:
        """Let go of all but the newest of a subject, in a while; that may not happen."""
        what = {"filter": subject, "keep": keep}
        self._link.mention(f"$JS.API.STREAM.PURGE.{self.name}", msgspec.json.encode(what))

    async def make(self) -> None:
        """Raises EngineUnavailable when it can not be made, or is there in another form than we need."""
        if self._making is None:
            self._making = asyncio.get_running_loop().create_task(self._make())
            self._making.add_done_callback(self._made_now)
        await asyncio.shield(self._making)

    def _made_now(self, making: asyncio.Task[None]) -> None:
        self._making = None
        if not making.cancelled():
            making.exception()  # whoever waited has it; perhaps nobody did

    async def _make(self) -> None:
        line = self._link.lines
        form = {"name": self.name, "max_age": _nanoseconds(self.ages), **self._form}
        try:
            await self._call(f"STREAM.CREATE.{self.name}", form)
        except Refused as error:
            if error.code != _NAME_IN_USE:
                raise EngineUnavailable(str(error)) from None
            there = await self._there()
            for name in ("subjects", "republish"):
                if name in self._form and there.get(name) != self._form[name]:
                    raise EngineUnavailable(f"the stream {self.name} of NATS has other {name} than ours") from None
            self.ages = max(self.ages, there.get("max_age", 0) / _NANOSECONDS)
        self._made_on = line

    async def keep_for(self, ages: float) -> None:
        """Keep messages for `ages` seconds at least."""
        if ages <= self.ages:
            return
        await self.make()
        there = await self._there()
        if _nanoseconds(ages) > there.get("max_age", 0):
            await self._ask(f"STREAM.UPDATE.{self.name}", {**there, "max_age": _nanoseconds(ages)})
        self.ages = ages

    # -----------------------------------------------------------------------------------------------------------------

    async def _there(self) -> dict[str, Any]:
        """Its configuration in the server."""
        try:
            return (await self._call(f"STREAM.INFO.{self.name}", None)).config
        except Refused as error:
            raise EngineUnavailable(str(error)) from None

    async def _get(self, which: dict[str, Any]) -> Stored | None:
        body = msgspec.json.encode(which)
        try:
            reply = await self._made(lambda: self._request(f"$JS.API.STREAM.MSG.GET.{self.name}", body))
        except Refused as error:
            if error.code == _NO_MESSAGE:
                return None
            raise EngineUnavailable(str(error)) from None
        it = reply.message
        return Stored(it.subject, it.seq, _seconds(it.time), it.data) if it is not None else None

    async def _read(self, subject: str) -> tuple[float, list[Stored]]:
        """By a consumer of the moment, which sends all that there is."""
        found: list[Stored] = []
        pending = -1  # how many the consumer began with

        def request(inbox: str) -> tuple[str, bytes]:
            config = {
                "deliver_subject": inbox,
                "deliver_policy": "all",
                "filter_subject": subject,
                "ack_policy": "none",
                "replay_policy": "instant",
                "inactive_threshold": 5 * _NANOSECONDS,
                "mem_storage": True,
                "num_replicas": 1,
            }
            body = {"stream_name": self.name, "config": config}
            return f"$JS.API.CONSUMER.CREATE.{self.name}", msgspec.json.encode(body)

        def each(message: Message) -> bool:
            nonlocal pending
            if message.reply.startswith("$JS.ACK."):
                found.append(_delivered(message))
            elif not message.headers:  # the answer, which may come after the first of them
                reply = _decode(message.data)
                pending = 0 if reply.error is not None else reply.num_pending
            return 0 <= pending <= len(found)

        reply = await self._made(lambda: self._gather(request, each))
        self._link.mention(f"$JS.API.CONSUMER.DELETE.{self.name}.{reply.name}", b"")
        return _seconds(reply.created), found

    async def _made(self, ask: Callable[[], Awaitable[_Reply]]) -> _Reply:
        """What is answered; the stream is made if it is not there. Raises Refused, EngineUnavailable.

        Not asked first and made then: nats-server 2.9 crashes when a message is asked for while its stream is made.
        """
        if self._made_on == self._link.lines:
            try:
                return await ask()
            except NobodyAnswers:
                pass
            except Refused as error:
                if error.code != _NO_STREAM:
                    raise
        await self.make()
        return await ask()

    async def _ask(self, what: str, body: dict[str, Any] | None) -> _Reply:
        try:
            return await self._made(lambda: self._call(what, body))
        except Refused as error:
            raise EngineUnavailable(str(error)) from None

    async def _call(self, what: str, body: dict[str, Any] | None) -> _Reply:
        return await self._request(f"$JS.API.{what}", b"" if body is None else msgspec.json.encode(body))

    async def _request(self, subject: str, data: bytes, headers: bytes = b"") -> _Reply:
        return _checked((await self._link.request(subject, data, headers)).data)

    async def _gather(self, request: Callable[[str], tuple[str, bytes]], each: Callable[[Message], bool]) -> _Reply:
        return _checked((await self._link.gather(request, each)).data)


def _decode(data: bytes) -> _Reply:
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError:
        return _Reply(_Error(description="what it answered is not of its form"))


_decoder = msgspec.json.Decoder(_Reply)


def _checked(data: bytes) -> _Reply:
    reply = _decode(data)
    if reply.error is not None:
        raise Refused(reply.error)
    return reply


def _delivered(message: Message) -> Stored:
    """Of `$JS.ACK.[domain.account.]stream.consumer.deliveries.place.delivery.nanoseconds.pending`."""
    words = message.reply.split(".")
    place, time = (words[5], words[7]) if len(words) == 9 else (words[7], words[9])
    return Stored(message.subject, int(place), int(time) / _NANOSECONDS, message.data)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _nanoseconds(seconds: float) -> int:
    return int(seconds * _NANOSECONDS)
