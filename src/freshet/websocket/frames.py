"""The frames of RFC 6455: a decoder that takes bytes as they come, and functions that encode.

Every client has a decoder for as long as it is there, so one that waits for nothing holds nothing. What it has to keep
is bounded: a length is refused when its header is read, before any of the payload is kept. Each byte is looked at once,
however the bytes are cut.
"""

import codecs
import sys
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from freshet.errors import is_close_code
from freshet.model.frame import Batch, Frame
from freshet.websocket.deflate import Oversize, compress, inflate
from freshet.websocket.masking import mask_bytes

KIB = 1024
MIB = 1024 * KIB
CONTROL = 125  # bytes of payload that a control frame may have
TOO_BIG, TOO_MANY_FRAGMENTS = 1009, "too many fragments"
PORTION = 256  # KiB out of compressed messages that are given at a time
TAKEN = 64 * KIB  # bytes that are looked at at a time, and the rest of the frame in which they end
WORTH_DEFLATING = 64  # bytes of payload; what is shorter hardly gets smaller


class Opcode(IntEnum):
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class MessageLimits(NamedTuple):
    """What a peer may send. One object for all clients of a configuration.

    frame, message: bytes of payload, as on the wire; a compressed message may not be longer when inflated either.
    fragments: frames of one message.
    """

    frame: int = 1 * MIB
    message: int = 1 * MIB
    fragments: int = 1024


class PingFrame(NamedTuple):
    data: bytes


class PongFrame(NamedTuple):
    data: bytes


class CloseFrame(NamedTuple):
    """code: None when the frame had none."""

    code: int | None
    reason: str


Event: TypeAlias = Frame | PingFrame | PongFrame | CloseFrame


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
        head = bytes((first, masked | 126, length >> 8, length & 0xFF))
    else:
        head = bytes((first, masked | 127)) + length.to_bytes(8, "big")
    return head + payload if mask is None else head + mask + mask_bytes(payload, mask)


_SHORT_TEXT, _SHORT_BINARY = (
    tuple(encode(opcode, bytes(length))[:2] for length in range(126)) for opcode in (Opcode.TEXT, Opcode.BINARY)
)


def wire(frame: Frame) -> bytes:
    """A message from the server, in one frame, and its tail; kept in the `Frame` for all who get it."""
    if type(frame) is Batch:
        frame.wire = b"".join([part.wire or wire(part) for part in frame.parts])
        return frame.wire
    data = frame.data
    length = len(data)
    if length < 126:  # what `encode` makes of most messages, in a third of its time
        result = (_SHORT_BINARY if frame.binary else _SHORT_TEXT)[length] + data
    elif length < 65536:
        result = (b"\x82\x7e" if frame.binary else b"\x81\x7e") + length.to_bytes(2, "big") + data
    else:
        result = encode(Opcode.BINARY if frame.binary else Opcode.TEXT, data)
    if frame.tail is not None:
        result += wire(frame.tail)
    frame.wire = result
    return result


def rest(data: bytes, sent: int) -> Frame:
    """What is left of a message of which so many bytes are written."""
    frame = Frame(data[sent:])
    frame.wire = frame.data
    return frame


def deflated_wire(frame: Frame) -> bytes:
    """The same for clients that negotiated permessage-deflate: compressed once for all who get it.

    Whether a message is compressed is said in each (RFC 7692, 6), so what does not get smaller goes as it is.
    """
    if type(frame) is Batch:
        frame.deflated = b"".join([part.deflated or deflated_wire(part) for part in frame.parts])
        return frame.deflated
    data = frame.data
    if len(data) >= WORTH_DEFLATING and len(compressed := compress(data)) < len(data):
        result = encode(Opcode.BINARY if frame.binary else Opcode.TEXT, compressed, rsv1=True)
        if frame.tail is not None:
            result += deflated_wire(frame.tail)
    else:
        result = frame.wire or wire(frame)
    frame.deflated = result
    return result


def close_payload(code: int, reason: str = "") -> bytes:
    """The payload of a Close frame; a reason that is too long is cut between two characters."""
    # RFC 6455, 5.5: "All control frames MUST have a payload length of 125 bytes or less".
    kept = reason.encode(errors="replace")[: CONTROL - 2]
    return code.to_bytes(2, "big") + kept.decode(errors="ignore").encode()


# ------------------------------------------------------------------------------------------------------------ decoding


class _Unfinished:
    """A message of which a part is here: in frames that follow, or in the frame that is being read."""

    __slots__ = ("compressed", "data", "fin", "frames", "left", "mask", "opcode", "utf8")

    def __init__(self, opcode: int, compressed: bool) -> None:
        self.opcode = opcode
        self.compressed = compressed
        self.data = bytearray()  # unmasked; one buffer, so that small frames cost no more than their bytes
        self.frames = 0
        self.fin = False  # whether the frame that is being read is the last one
        self.left = 0  # bytes of that frame that are still to come
        self.mask = b""  # of the next of them; empty: they are not masked
        self.utf8: codecs.IncrementalDecoder | None = None
        if opcode == Opcode.TEXT and not compressed:
            self.utf8 = codecs.getincrementaldecoder("utf-8")()


class Decoder:
    """Frames from one peer.

    server: this is the server's side, whose peer masks. deflate: permessage-deflate was negotiated.
    error: what the peer broke, once it did. `feed` does not raise: it gives the events that came before, and the caller
    looks at `error` after it has dealt with them. From an error or a CloseFrame on, whatever comes is ignored.
    held: bytes that were not looked at yet, from some place on. unfinished: what comes next depends on what came; if it
    does not, this is as a new one, and may be any peer's. cost: frames, or pieces of them, that completed no event, and
    KiB that came out of compressed messages; whoever reckons with that sets it back to 0.
    """

    __slots__ = (
        "_at",
        "_deflate",
        "_done",
        "_limits",
        "_message",
        "_server",
        "_short",
        "_start",
        "cost",
        "error",
        "held",
        "unfinished",
    )

    def __init__(self, limits: MessageLimits, *, server: bool = True, deflate: bool = False) -> None:
        self._limits = limits
        self._server = server
        self._deflate = deflate
        self._done = False
        self._start = b""  # of a header or a control frame that is not complete: up to 130 bytes
        self._message: _Unfinished | None = None
        self._short = -1  # the longest payload that `feed` may take by itself; -1: none, as something is unfinished
        self.held = b""  # from `_at` on, what is not looked at yet
        self._at = 0
        self.cost = 0
        self.error: ProtocolError | None = None
        self._settle()

    def feed(self, data: bytes, most: int = sys.maxsize) -> list[Event]:
        """The events that are complete with `data`, of at most so many frames: for the others it is fed again, with
        nothing.

        Where that is said, it gives no more than `TAKEN` bytes hold, and of compressed messages than make about
        `PORTION` KiB: a few bytes may become many.
        """
        events: list[Event] = []
        at, end, short = 0, len(data), self._short
        if self.held:
            data, at, end = self._resume(data)
        last = end if end - at <= TAKEN or most == sys.maxsize else at + TAKEN
        # Nearly all that clients send: whole messages of up to 64 KiB, masked, in one frame. The rest is for `_read`.
        while at + 6 <= last and len(events) < most:
            first, length, start = data[at], data[at + 1] - 0x80, at + 6
            if length == 126:
                length = data[at + 2] << 8 | data[at + 3]
                start += 2
            elif length == 127:
                break
            stop = start + length
            if (first != 0x81 and first != 0x82) or not 0 <= length <= short or stop > end:  # noqa: PLR1714 - faster
                break
            payload = mask_bytes(data[start:stop], data[start - 4 : start])
            if first == 0x82:
                events.append(Frame(payload, True))
            elif payload.isascii() or _is_utf8(payload):
                events.append(Frame(payload))
            else:
                break
            at = stop
        if at < end and not self._done:
            try:
                data, at = self._read(data, at, events, most, last)
            except ProtocolError as error:
                # A new one, without the traceback: that would keep the bytes, and all that is on the stack.
                self.error = ProtocolError(error.code, error.reason)
                self._done = True
            self._settle()
            if at < len(data) and not self._done:
                self.held, self._at, self.unfinished = data, at, True
        return events

    def _resume(self, data: bytes) -> tuple[bytes, int, int]:
        """What is to be looked at, from where, to where."""
        held, at = self.held, self._at
        self.held, self.unfinished = b"", self._short < 0
        if data:
            held, at = held[at:] + data, 0
        return held, at, len(held)

    def _settle(self) -> None:
        """Note whether `feed` may take short messages by itself."""
        if self._done:
            self._start, self._message = b"", None
        if self._done or not self._server or self._start or self._message is not None:
            self._short, self.unfinished = -1, True
        else:
            self._short, self.unfinished = min(0xFFFF, self._limits.frame, self._limits.message), False

    def _read(self, data: bytes, at: int, events: list[Event], most: int, last: int) -> tuple[bytes, int]:
        """What was looked at, and up to where. last: no frame is begun from there on."""
        cost, left = self.cost, most - len(events)
        if self._start:
            data, at, last, self._start = self._start + data, 0, last + len(self._start), b""
        end = len(data)
        while at < last and not self._done and left > 0 and self.cost - cost < PORTION:
            left -= 1
            if self._message is not None and self._message.left:
                at = self._payload(self._message, data, at, events)
                continue
            next_at = self._frame(data, at, end, events)
            if next_at == at:
                self._start, at = data[at:], end
            else:
                at = next_at
        self.cost += most - left - len(events)
        return data, at

    def _frame(self, data: bytes, at: int, end: int, events: list[Event]) -> int:
        """Begin the frame that begins `at`. Gives where to read on; `at` itself when more bytes are needed."""
        if end - at < 2:
            return at
        first, second = data[at], data[at + 1]
        self._check_header(first, second)
        length = second & 0x7F
        start = at + 2
        if length > CONTROL:
            start += 2 if length == 126 else 8
            if start > end:
                return at
            length = int.from_bytes(data[at + 2 : start], "big")
        if not first & 0x08:
            self._check_length(length)
        if self._server:
            start += 4
        stop = start + length
        if start > end or (first & 0x08 and stop > end):
            return at
        mask = data[start - 4 : start] if self._server else b""
        if first & 0x08:
            events.append(self._control(first & 0x0F, _unmasked(data[start:stop], mask)))
        elif first & 0x80 and self._message is None and stop <= end:
            payload = _unmasked(data[start:stop], mask)
            events.append(self._whole(first & 0x0F, bool(first & 0x40), payload))
        else:
            self._begin(first, length, mask, events)
            return start
        return stop

    def _check_header(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        # RFC 6455, 5.2: "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values".
        # RFC 7692, 6: "An endpoint MUST NOT set the "Per-Message Compressed" bit of control frames and non-first
        # fragments of a data message."
        if first & 0x70 and not (first & 0x70 == 0x40 and self._deflate and opcode in (1, 2)):
            raise ProtocolError(1002, "reserved bits are set")
        # RFC 6455, 5.2: "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket
        # Connection_."
        if opcode not in (0, 1, 2, 8, 9, 10):
            raise ProtocolError(1002, "reserved opcode")
        # RFC 6455, 5.1: "The server MUST close the connection upon receiving a frame that is not masked." and "A client
        # MUST close a connection if it detects a masked frame."
        if (second >= 0x80) is not self._server:
            raise ProtocolError(1002, "masked frame expected" if self._server else "unmasked frame expected")
        if opcode & 0x08:
            # RFC 6455, 5.5: "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be
            # fragmented."
            if second & 0x7F > CONTROL:
                raise ProtocolError(1002, "control frame longer than 125 bytes")
            if not first & 0x80:
                raise ProtocolError(1002, "fragmented control frame")
        elif (opcode == 0) is (self._message is None):
            # RFC 6455, 5.4: "The fragments of one message MUST NOT be interleaved between the fragments of another".
            raise ProtocolError(1002, "message inside a message" if opcode else "continuation of nothing")

    def _check_length(self, length: int) -> None:
        """Whether a data frame of `length` bytes may follow. Nothing of it has been kept yet."""
        if length >= 1 << 63:
            # RFC 6455, 5.2: "the most significant bit MUST be 0".
            raise ProtocolError(1002, "length with the most significant bit set")
        limits, message = self._limits, self._message
        if length > limits.frame or length + (len(message.data) if message else 0) > limits.message:
            raise ProtocolError(TOO_BIG, "message too big")
        if (message.frames if message else 0) >= limits.fragments:
            raise ProtocolError(TOO_BIG, TOO_MANY_FRAGMENTS)

    def _begin(self, first: int, length: int, mask: bytes, events: list[Event]) -> None:
        """A frame whose payload is not all here, or not all of its message."""
        if self._message is None:
            self._message = _Unfinished(first & 0x0F, bool(first & 0x40))
        message = self._message
        message.frames += 1
        message.fin = bool(first & 0x80)
        message.left = length
        message.mask = mask
        if not length and message.fin:
            self._finish(message, events)

    def _payload(self, message: _Unfinished, data: bytes, at: int, events: list[Event]) -> int:
        """Take what is here of the frame that is being read. Gives where to read on."""
        chunk = data[at : at + message.left]
        if message.mask:
            turn = len(chunk) & 3
            chunk = mask_bytes(chunk, message.mask)
            message.mask = message.mask[turn:] + message.mask[:turn]
        message.left -= len(chunk)
        message.data += chunk
        if message.utf8 is not None:
            _decode(message.utf8, chunk)
        if not message.left and message.fin:
            self._finish(message, events)
        return at + len(chunk)

    def _finish(self, message: _Unfinished, events: list[Event]) -> None:
        self._message = None
        if message.utf8 is None:
            events.append(self._whole(message.opcode, message.compressed, bytes(message.data)))
        else:
            _decode(message.utf8, b"", final=True)
            events.append(Frame(bytes(message.data)))

    def _whole(self, opcode: int, compressed: bool, data: bytes) -> Frame:
        """A message from its payload, of which nothing was checked yet."""
        if compressed:
            try:
                data = inflate(data, self._limits.message)
            except Oversize:
                raise ProtocolError(TOO_BIG, "message too big") from None
            except ValueError:
                raise ProtocolError(1007, "invalid deflate data") from None
            self.cost += len(data) // KIB
        if opcode == Opcode.BINARY:
            return Frame(data, True)
        if not (data.isascii() or _is_utf8(data)):
            raise ProtocolError(1007, "invalid UTF-8")
        return Frame(data)

    def _control(self, opcode: int, payload: bytes) -> Event:
        if opcode == Opcode.PING:
            return PingFrame(payload)
        if opcode == Opcode.PONG:
            return PongFrame(payload)
        self._done = True
        if not payload:
            return CloseFrame(None, "")
        # RFC 6455, 5.5.1: "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer".
        if len(payload) == 1:
            raise ProtocolError(1002, "close code of one byte")
        code = int.from_bytes(payload[:2], "big")
        if not is_close_code(code):
            raise ProtocolError(1002, "invalid close code")
        try:
            return CloseFrame(code, payload[2:].decode())
        except UnicodeDecodeError:
            raise ProtocolError(1007, "invalid UTF-8 in a close reason") from None


# RFC 6455, 8.1: "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is not, in
# fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_."


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decode(utf8: codecs.IncrementalDecoder, chunk: bytes, *, final: bool = False) -> None:
    try:
        utf8.decode(chunk, final)
    except UnicodeDecodeError:
        raise ProtocolError(1007, "invalid UTF-8") from None
    # Python waits for the third byte of a surrogate, though two say already that it is none of UTF-8's characters.
    if b"\xed\xa0" <= utf8.getstate()[0] < b"\xee":
        raise ProtocolError(1007, "invalid UTF-8")


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    return mask_bytes(payload, mask) if mask else payload
