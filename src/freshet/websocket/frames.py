"""The frames of RFC 6455: a decoder that takes bytes as they come, and functions that encode.

A decoder that waits for nothing holds nothing. What it has to keep is bounded: a length is refused when its header is
read, before any of the payload is kept. Time is linear in the bytes, however they are cut.
"""

import codecs
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from freshet.model import Frame
from freshet.websocket.deflate import Oversize, compress, inflate
from freshet.websocket.masking import mask_bytes

KIB = 1024
MIB = 1024 * KIB


class Opcode(IntEnum):
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class Limits(NamedTuple):
    """frame, message: bytes of payload, the message's after inflating. fragments: frames of one message."""

    frame: int = 1 * MIB
    message: int = 1 * MIB
    fragments: int = 1024


class Ping(NamedTuple):
    data: bytes


class Pong(NamedTuple):
    data: bytes


class Close(NamedTuple):
    """code: None when the frame had none."""

    code: int | None
    reason: str


Event: TypeAlias = Frame | Ping | Pong | Close


class ProtocolError(Exception):
    """The peer broke the protocol; `code` and `reason` are for the Close frame: 1002, 1007 or 1009."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


# ------------------------------------------------------------------------------------------------------------ encoding


def encode(opcode: Opcode, payload: bytes, *, mask: bytes | None = None, fin: bool = True, rsv1: bool = False) -> bytes:
    """One frame. mask: four random bytes; a client must give them, a server must not."""
    first = (0x80 if fin else 0) | (0x40 if rsv1 else 0) | opcode
    masked = 0 if mask is None else 0x80
    length = len(payload)
    if length < 126:
        head = bytes((first, masked | length))
    elif length < 65536:
        head = bytes((first, masked | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((first, masked | 127)) + length.to_bytes(8, "big")
    return head + payload if mask is None else head + mask + mask_bytes(payload, mask)


def wire(frame: Frame) -> bytes:
    """A message from the server, in one frame; kept in the `Frame` for all who get it."""
    result = frame.wire = encode(Opcode.BINARY if frame.binary else Opcode.TEXT, frame.data)
    return result


def deflated_wire(frame: Frame) -> bytes:
    """The same with permessage-deflate: compressed once for all who get it."""
    opcode = Opcode.BINARY if frame.binary else Opcode.TEXT
    result = frame.deflated = encode(opcode, compress(frame.data), rsv1=True)
    return result


def close_payload(code: int, reason: str = "") -> bytes:
    """The payload of a Close frame; a reason that is too long is cut between two characters."""
    # RFC 6455, 5.5: "All control frames MUST have a payload length of 125 bytes or less".
    return code.to_bytes(2, "big") + reason.encode()[:123].decode(errors="ignore").encode()


# ------------------------------------------------------------------------------------------------------------ decoding


class Decoder:
    """Frames from one peer.

    server: this is the server's side, whose peer masks. deflate: permessage-deflate was negotiated.
    error: what the peer broke, once it did; the events before that were answered by `feed`. From then on, and from a
    Close on, everything is ignored.
    """

    __slots__ = (
        "_buffer",
        "_compressed",
        "_deflate",
        "_done",
        "_fragments",
        "_limits",
        "_opcode",
        "_server",
        "_size",
        "_utf8",
        "_wanted",
        "error",
    )

    def __init__(self, limits: Limits, *, server: bool = True, deflate: bool = False) -> None:
        self._limits = limits
        self._server = server
        self._deflate = deflate
        self._done = False
        self._buffer: bytearray | None = None  # of a frame that is not complete
        self._wanted = 0  # bytes that the buffer needs before it is worth a look
        self._fragments: list[bytes] | None = None  # of a message that is not complete
        self._size = 0
        self._opcode = 0
        self._compressed = False
        self._utf8: codecs.IncrementalDecoder | None = None
        self.error: ProtocolError | None = None

    def feed(self, data: bytes) -> list[Event]:
        """The events that are complete with `data`."""
        events: list[Event] = []
        if self._done:
            return events
        buffer: bytes | bytearray = data
        if self._buffer is not None:
            self._buffer += data
            if len(self._buffer) < self._wanted:
                return events
            buffer, self._buffer = self._buffer, None
        at, end = 0, len(buffer)
        try:
            while at < end and not self._done:
                next_at = self._frame(buffer, at, end, events)
                if next_at < 0:
                    self._keep(buffer, at, -next_at)
                    break
                at = next_at
        except ProtocolError as error:
            self.error = error
            self._done = True
            self._fragments = None
        return events

    def _keep(self, buffer: bytes | bytearray, at: int, wanted: int) -> None:
        """Wait until a frame that begins `at` has `wanted` bytes."""
        if at == 0 and isinstance(buffer, bytearray):
            self._buffer = buffer
        else:
            self._buffer = bytearray(memoryview(buffer)[at:])
        self._wanted = wanted

    def _frame(self, buffer: bytes | bytearray, at: int, end: int, events: list[Event]) -> int:
        """One frame that begins `at`: where the next begins, or minus the bytes that this one needs to be looked at."""
        if end - at < 2:
            return -2
        first, second = buffer[at], buffer[at + 1]
        if (second >= 0x80) is not self._server:
            # RFC 6455, 5.1: "a client MUST mask all frames that it sends to the server", "A server MUST NOT mask".
            raise ProtocolError(1002, "masked frame expected" if self._server else "unmasked frame expected")
        length = second & 0x7F
        start = at + 2
        if length > 125:
            size = 2 if length == 126 else 8
            if first & 0x08:
                raise ProtocolError(1002, "control frame longer than 125 bytes")
            if end - start < size:
                self._check(first, 0)
                return -(2 + size)
            length = int.from_bytes(buffer[start : start + size], "big")
            start += size
            if length >= 1 << 63:
                # RFC 6455, 5.2: "the most significant bit MUST be 0".
                raise ProtocolError(1002, "length with the most significant bit set")
        self._check(first, length)
        if self._server:
            start += 4
        stop = start + length
        if stop > end:
            return at - stop
        payload = bytes(buffer[start:stop])
        if self._server and payload:
            payload = mask_bytes(payload, bytes(buffer[start - 4 : start]))
        if first == 0x81 and self._fragments is None:
            self._validate(payload)
            events.append(Frame(payload))
        else:
            self._take(first, payload, events)
        return stop

    def _check(self, first: int, length: int) -> None:
        """What a header alone says. Raises before anything of the payload is kept."""
        opcode = first & 0x0F
        if first & 0x70 and not (first & 0x70 == 0x40 and self._deflate and opcode in (1, 2)):
            # RFC 6455, 5.2: "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values".
            raise ProtocolError(1002, "reserved bits are set")
        if opcode & 0x08:
            if opcode > 0x0A:
                raise ProtocolError(1002, "reserved opcode")
            if not first & 0x80:
                raise ProtocolError(1002, "fragmented control frame")
            return
        if opcode > 2:
            raise ProtocolError(1002, "reserved opcode")
        if (opcode == 0) is (self._fragments is None):
            raise ProtocolError(1002, "continuation of nothing" if opcode == 0 else "message inside a message")
        if length > self._limits.frame or self._size + length > self._limits.message:
            raise ProtocolError(1009, "message too big")
        if self._fragments is not None and len(self._fragments) >= self._limits.fragments:
            raise ProtocolError(1009, "too many fragments")

    def _take(self, first: int, payload: bytes, events: list[Event]) -> None:
        opcode = first & 0x0F
        if opcode & 0x08:
            events.append(self._control(opcode, payload))
            return
        fin = bool(first & 0x80)
        if opcode:
            self._opcode = opcode
            self._compressed = bool(first & 0x40)
            if fin:
                events.append(self._message(payload))
                return
            self._fragments = []
            if opcode == Opcode.TEXT and not self._compressed:
                self._utf8 = codecs.getincrementaldecoder("utf-8")()
        assert self._fragments is not None
        if self._utf8 is not None:
            self._check_utf8(payload, fin)
        self._fragments.append(payload)
        self._size += len(payload)
        if fin:
            whole = b"".join(self._fragments)
            self._fragments, self._size = None, 0
            events.append(self._message(whole))
            self._utf8 = None

    def _message(self, data: bytes) -> Frame:
        if self._compressed:
            self._compressed = False
            try:
                data = inflate(data, self._limits.message)
            except Oversize:
                raise ProtocolError(1009, "message too big") from None
            except ValueError:
                raise ProtocolError(1002, "invalid deflate data") from None
        if self._opcode == Opcode.TEXT and self._utf8 is None:
            self._validate(data)
        return Frame(data, self._opcode == Opcode.BINARY)

    @staticmethod
    def _validate(data: bytes) -> None:
        # RFC 6455, 8.1: "when an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is not,
        # in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_".
        if not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError:
                raise ProtocolError(1007, "invalid UTF-8") from None

    def _check_utf8(self, payload: bytes, final: bool) -> None:
        assert self._utf8 is not None
        try:
            self._utf8.decode(payload, final)
        except UnicodeDecodeError:
            raise ProtocolError(1007, "invalid UTF-8") from None

    def _control(self, opcode: int, payload: bytes) -> Event:
        if opcode == Opcode.PING:
            return Ping(payload)
        if opcode == Opcode.PONG:
            return Pong(payload)
        self._done = True
        if not payload:
            return Close(None, "")
        if len(payload) == 1:
            raise ProtocolError(1002, "close code of one byte")
        code = int.from_bytes(payload[:2], "big")
        # RFC 6455, 7.4.1 and 7.4.2: 1004 is reserved, 1005, 1006 and 1015 are never sent; 3000-4999 are free to use.
        if not (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) and not 3000 <= code <= 4999:
            raise ProtocolError(1002, "invalid close code")
        try:
            return Close(code, payload[2:].decode())
        except UnicodeDecodeError:
            raise ProtocolError(1007, "invalid UTF-8 in a close reason") from None
