"""The wire format of Protocol Buffers, as much as the Centrifugal protocol needs: a message's fields are a table.

Decoding is linear in the bytes, and goes no deeper than the table. Unknown fields are skipped, as the format wants.
Source: the encoding guide of protobuf.dev.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple, TypeAlias


class Scalar(Enum):
    UINT = "uint64"
    INT = "int64"
    BOOL = "bool"
    TEXT = "string"
    BYTES = "bytes"


class Map(NamedTuple):
    """From texts to values of one kind."""

    value: "Kind"


class Many(NamedTuple):
    """Values of one kind, in order."""

    value: "Kind"


class Message:
    """make: what a decoded message becomes, called with its fields by name."""

    __slots__ = ("by_name", "by_number", "make")

    def __init__(self, make: Callable[..., Any] = dict, **fields: tuple[int, "Kind"]) -> None:
        self.make = make
        self.by_name = fields
        self.by_number = {number: (name, kind) for name, (number, kind) in fields.items()}


Kind: TypeAlias = Scalar | Map | Many | Message

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MASK = (1 << 64) - 1


def varint(number: int) -> bytes:
    """A number that is not negative."""
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next thing begins. Raises ValueError."""
    number = shift = 0
    while shift < 70:
        if at >= len(data):
            raise ValueError("it ends within a number")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & _MASK, at
        shift += 7
    raise ValueError("a number is too long")


def read_delimited(data: bytes, at: int) -> tuple[bytes, int]:
    """The bytes behind their length, and where the next thing begins. Raises ValueError."""
    length, at = read_varint(data, at)
    end = at + length
    if end > len(data):
        raise ValueError("it ends too early")
    return data[at:end], end


# ------------------------------------------------------------------------------------------------------------ decoding


def decode(message: Message, data: bytes) -> Any:
    """What `message.make` makes of the fields that are there. Raises ValueError (UnicodeDecodeError is one)."""
    fields: dict[str, Any] = {}
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        value: int | bytes
        if wire == _VARINT:
            value, at = read_varint(data, at)
        elif wire == _LENGTH:
            value, at = read_delimited(data, at)
        elif wire in (_FIXED64, _FIXED32):
            value, at = 0, at + (8 if wire == _FIXED64 else 4)
        else:
            raise ValueError("unknown wire type")
        known = message.by_number.get(number)
        if known is not None:
            _put(fields, *known, value)
    if at > len(data):
        raise ValueError("it ends too early")
    return message.make(**fields)


def _put(fields: dict[str, Any], name: str, kind: Kind, value: int | bytes) -> None:
    if isinstance(kind, Map):
        entry = decode(Message(key=(1, Scalar.TEXT), value=(2, kind.value)), _bytes(value))
        fields.setdefault(name, {})[entry.get("key", "")] = entry["value"] if "value" in entry else _default(kind.value)
    elif isinstance(kind, Many):
        fields.setdefault(name, []).append(_value(kind.value, value))
    else:
        fields[name] = _value(kind, value)


def _default(kind: Kind) -> Any:
    return _value(kind, 0 if kind in (Scalar.UINT, Scalar.INT, Scalar.BOOL) else b"")


def _value(kind: Kind, value: int | bytes) -> Any:
    if isinstance(kind, Message):
        return decode(kind, _bytes(value))
    if kind is Scalar.BYTES:
        return _bytes(value)
    if kind is Scalar.TEXT:
        return _bytes(value).decode()
    if not isinstance(value, int):
        raise ValueError("expected a number")
    if kind is Scalar.BOOL:
        return bool(value)
    return value - (1 << 64) if kind is Scalar.INT and value >> 63 else value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("expected bytes")
    return value


# ------------------------------------------------------------------------------------------------------------ encoding


def encode(message: Message, value: Mapping[str, Any]) -> bytes:
    """A message from its fields by name; those that the table does not have are left out.

    What is empty is left out too, but for messages: that they are there says something.
    """
    out: list[bytes] = []
    for name, item in value.items():
        if name not in message.by_name:
            continue
        number, kind = message.by_name[name]
        if isinstance(kind, Map):
            entry = Message(key=(1, Scalar.TEXT), value=(2, kind.value))
            out += [field(number, encode(entry, {"key": key, "value": each})) for key, each in item.items()]
        elif isinstance(kind, Many):
            out += [field(number, _encoded(kind.value, each)) for each in item]
        elif isinstance(kind, Message):
            out.append(field(number, encode(kind, item)))
        elif kind in (Scalar.BYTES, Scalar.TEXT):
            if item:
                out.append(field(number, _encoded(kind, item)))
        elif item:
            out.append(varint(number << 3) + varint(int(item) & _MASK))
    return b"".join(out)


def _encoded(kind: Kind, item: Any) -> bytes:
    if isinstance(kind, Message):
        return encode(kind, item)
    return item.encode() if kind is Scalar.TEXT else bytes(item)


def field(number: int, data: bytes) -> bytes:
    """A field of bytes, with its tag and length."""
    return varint(number << 3 | _LENGTH) + varint(len(data)) + data
