"""A line to a NATS server: requests and their answers, subscriptions; all of a turn of the loop leaves in one write.

The client protocol of NATS: lines of text, and payloads whose length the line before tells. The keeping of a line, and
which server it leads to, is `nats_link.py`'s.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import msgspec

from freshet.engines.nats.access import Access, Address, greeting
from freshet.errors import EngineUnavailable

log = logging.getLogger("freshet")

WAITING_CALLS = 100_000
WAITING_BYTES = 64 * 1024 * 1024  # that the server has not yet taken
LONGEST = 1024 * 1024  # of a line of the protocol: INFO names all servers of a cluster
_INBOX_SID = b"1"


class Message(NamedTuple):
    """reply: where an answer would go. headers: with the line that begins them, or empty."""

    subject: str
    reply: str
    headers: bytes
    data: bytes

    @property
    def status(self) -> int:
        """What the server says instead of a message, such as 503: nobody answers this. 0: it is a message."""
        code = self.headers[9:12]
        return int(code) if code.isdigit() else 0

    def header(self, name: bytes) -> bytes:
        """The first value of that name; empty when there is none."""
        _, found, rest = self.headers.partition(b"\r\n" + name + b":")
        return rest.partition(b"\r\n")[0].strip() if found else b""


class _Call(NamedTuple):
    answer: asyncio.Future[Message]
    since: float


class _Gathering(NamedTuple):
    each: Callable[[Message], None]
    whole: asyncio.Future[None]


class Line(asyncio.Protocol):
    """One connection. heard: called with what comes on our subjects. lost: when it is no more, and why."""

    def __init__(self, heard: Callable[[Message], None], lost: Callable[[str], None]) -> None:
        self.info: dict[str, Any] = {}
        self.closed = False
        self._heard = heard
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._introduced: asyncio.Future[None] = self._loop.create_future()
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._size = 0  # of `_out`, and of what the transport holds back
        self._confirmed: asyncio.Future[None] | None = None  # what leaves in this turn
        self._pongs: deque[asyncio.Future[None]] = deque()
        self._asked_at = 0.0  # when the first of `_pongs` was asked for, or answered last
        self._refusal = ""  # since the last PONG
        self._inbox = f"_INBOX.{secrets.token_hex(11)}."
        self._calls: dict[str, _Call] = {}  # by the last part of the inbox, in the order in which they were asked
        self._gathering: dict[bytes, _Gathering] = {}  # by the number of their subscription
        self._sids: dict[str, int] = {}
        self._last_sid = 1
        self._last_call = 0

    @classmethod
    async def dial(
        cls, address: Address, access: Access, heard: Callable[[Message], None], lost: Callable[[str], None]
    ) -> "Line":
        """A line that the server has let in. Raises OSError, EOFError; the caller limits the time."""
        loop = asyncio.get_running_loop()
        try:
            _, line = await loop.create_connection(lambda: cls(heard, lost), *address)
        except OSError as error:  # not every loop names the place
            raise OSError(f"{address}: {error.strerror or error}") from error
        try:
            await line._introduced
            await line._secure(address, access)
            line._write(b"CONNECT " + msgspec.json.encode(greeting(access, line.info)))
            line._write(b"SUB " + line._inbox.encode() + b"* " + _INBOX_SID)
            await line.confirm()
        except BaseException:
            line.close("it was given up")
            raise
        return line

    async def _secure(self, address: Address, access: Access) -> None:
        if access.tls is None:
            if self.info.get("tls_required"):
                self.close("")
                raise EOFError(f"{address} wants TLS: say tls:// instead of nats://")
            return
        assert self._transport is not None
        upgraded = await self._loop.start_tls(self._transport, self, access.tls, server_hostname=address.host)
        self._transport = cast(asyncio.Transport, upgraded)

    @property
    def largest(self) -> int:
        """Bytes of the largest message that the server takes."""
        return int(self.info.get("max_payload", 1024 * 1024))

    # --------------------------------------------------------------------------------------------------------- asking

    def request(self, subject: str, data: bytes, headers: bytes = b"") -> asyncio.Future[Message]:
        """What somebody answers. Raises as `publish`; the future EOFError when the line is lost before."""
        if len(self._calls) >= WAITING_CALLS:
            raise EngineUnavailable("NATS does not keep up: too many requests wait for an answer")
        name, answer = self._name(), self._loop.create_future()
        self.publish(subject, data, headers, self._inbox + name)
        self._calls[name] = _Call(answer, self._loop.time())
        return answer

    def gather(self, each: Callable[[Message], None], whole: asyncio.Future[None]) -> str:
        """A subject of our own, of which `each` hears all, until `let_go` of it.

        whole: fails with EOFError when the line is lost.
        """
        subject = f"{self._inbox}all.{self._name()}"
        self.hear(subject)
        self._gathering[b"%d" % self._sids[subject]] = _Gathering(each, whole)
        return subject

    def let_go(self, subject: str) -> None:
        self._gathering.pop(b"%d" % self._sids.get(subject, 0), None)
        self.ignore(subject)

    def publish(self, subject: str, data: bytes, headers: bytes = b"", reply: str = "") -> None:
        """Send a message. headers: `Name: value` lines, each with its end.

        Raises EngineUnavailable when it is too large or too much waits to leave, EOFError on a line that is lost.
        """
        if len(data) + len(headers) + 12 > self.largest:
            raise EngineUnavailable(f"NATS takes messages of at most {self.largest} bytes (max_payload)")
        where = f"{subject} {reply}" if reply else subject
        if headers:
            head = b"NATS/1.0\r\n" + headers + b"\r\n"
            self._write(f"HPUB {where} {len(head)} {len(head) + len(data)}\r\n".encode() + head + data)
        else:
            self._write(f"PUB {where} {len(data)}\r\n".encode() + data)

    def confirm(self) -> asyncio.Future[None]:
        """Done when the server has taken all that was sent until now; EOFError when the line is lost before.

        One for all of a turn: only to be awaited behind `asyncio.shield` where others may wait too.
        """
        if self._confirmed is None:
            self._confirmed = self._loop.create_future()
            self._write(b"")  # so that there is something to flush
        return self._confirmed

    def hear(self, subject: str) -> None:
        """Let `heard` hear what is published there."""
        if subject not in self._sids:
            self._last_sid += 1
            self._sids[subject] = self._last_sid
            self._write(f"SUB {subject} {self._last_sid}".encode())

    def ignore(self, subject: str) -> None:
        if (sid := self._sids.pop(subject, None)) is not None and not self.closed:
            self._write(f"UNSUB {sid}".encode())

    def fail_late(self, timeout: float) -> bool:
        """Give up what nobody has answered for `timeout` seconds. Whether even the server itself has not."""
        before = self._loop.time() - timeout
        while self._calls:
            name, call = next(iter(self._calls.items()))
            if call.since > before:
                break
            del self._calls[name]
            if not call.answer.done():
                call.answer.set_exception(EngineUnavailable(f"nobody in NATS answered within {timeout:g} s"))
        return bool(self._pongs) and self._asked_at < before

    def close(self, why: str) -> None:
        """Let go of it at once; all that waits fails with EOFError. It does not count as lost."""
        if self._transport is not None:
            self._transport.abort()
        self._end(why or "the line is closed")

    # -------------------------------------------------------------------------------------------------------- writing

    def _name(self) -> str:
        self._last_call += 1
        return str(self._last_call)

    def _write(self, part: bytes) -> None:
        if self.closed:
            raise EOFError("the line is closed")
        waiting = self._size + (self._transport.get_write_buffer_size() if self._transport is not None else 0)
        if waiting and waiting + len(part) > WAITING_BYTES:
            raise EngineUnavailable("NATS does not keep up: too much waits to be sent")
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(part)
        self._size += len(part)

    def _flush(self) -> None:
        out, self._out, self._size = self._out, [], 0
        if self._transport is None or self.closed:
            return
        if self._confirmed is not None:
            if not self._pongs:
                self._asked_at = self._loop.time()
            self._pongs.append(self._confirmed)
            self._confirmed = None
            out.append(b"PING")
        self._transport.write(b"\r\n".join([part for part in out if part]) + b"\r\n")

    # -------------------------------------------------------------------------------------------- asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, why: Exception | None) -> None:
        if not self.closed:
            self._fail(str(why or self._refusal or "the server closed it"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at = 0
        try:
            while not self.closed and (next_at := self._take(at)) > at:
                at = next_at
        except (ValueError, IndexError, msgspec.MsgspecError):
            self._fail("what the server sent is not the protocol of NATS")
        del self._buffer[:at]

    # -------------------------------------------------------------------------------------------------------- reading

    def _take(self, at: int) -> int:
        """What begins at `at` in the buffer. The answer is where the next begins, or `at` when it is not whole yet."""
        buffer = self._buffer
        end = buffer.find(b"\r\n", at)
        if end < 0:
            if len(buffer) - at > LONGEST:
                raise ValueError
            return at
        words = bytes(buffer[at:end]).split(b" ", 1)
        start = end + 2
        if words[0] not in (b"MSG", b"HMSG"):
            self._control(words[0], words[-1])
            return start
        parts = words[1].split()
        total = int(parts[-1])
        if len(buffer) < start + total + 2:
            return at
        head = int(parts[-2]) if words[0] == b"HMSG" else 0
        reply = parts[2].decode() if len(parts) == (5 if words[0] == b"HMSG" else 4) else ""
        split = start + head
        message = Message(
            parts[0].decode(), reply, bytes(buffer[start:split]) if head else b"", bytes(buffer[split : start + total])
        )
        if parts[1] == _INBOX_SID:
            self._answer(message)
        elif (gathering := self._gathering.get(parts[1])) is not None:  # its messages keep the subjects that they had
            gathering.each(message)
        else:
            self._heard(message)
        return start + total + 2

    def _control(self, verb: bytes, rest: bytes) -> None:
        if verb == b"PING":
            self._write(b"PONG")
        elif verb == b"PONG":
            self._confirm_first()
        elif verb == b"INFO":
            self.info.update(msgspec.json.decode(rest))
            if not self._introduced.done():
                self._introduced.set_result(None)
        elif verb == b"-ERR":
            self._refusal = rest.decode("utf-8", "replace").strip("' ")
            if not self._refusal.lower().startswith("permissions violation"):
                self._fail(f"the server said: {self._refusal}")
        elif verb != b"+OK":
            raise ValueError

    def _confirm_first(self) -> None:
        """What was sent before the PING of this PONG has been taken, unless something of it was refused."""
        if not self._pongs:
            return
        confirmed = self._pongs.popleft()
        self._asked_at = self._loop.time()
        refusal, self._refusal = self._refusal, ""
        if confirmed.done():
            return
        if refusal:
            confirmed.set_exception(EngineUnavailable(f"NATS refused: {refusal}"))
            confirmed.exception()  # perhaps nobody waits for it
        else:
            confirmed.set_result(None)

    def _answer(self, message: Message) -> None:
        call = self._calls.pop(message.subject[len(self._inbox) :], None)
        if call is not None and not call.answer.done():
            call.answer.set_result(message)

    def _fail(self, why: str) -> None:
        if self._transport is not None:
            self._transport.abort()
        if not self.closed:
            self._end(why)
            self._lost(why)

    def _end(self, why: str) -> None:
        if self.closed:
            return
        self.closed = True
        error = EOFError(why)
        waiting: list[asyncio.Future[Any]] = [call.answer for call in self._calls.values()]
        waiting += [each.whole for each in self._gathering.values()]
        waiting += [*self._pongs, self._introduced]
        if self._confirmed is not None:
            waiting.append(self._confirmed)
        self._calls, self._pongs, self._out = {}, deque(), []
        self._gathering.clear()
        for each in waiting:
            if not each.done():
                each.set_exception(error)
                each.exception()  # perhaps nobody waits for it
