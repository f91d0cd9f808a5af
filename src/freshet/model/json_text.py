r"""JSON texts as browsers and Python write them: what `JSON.parse` takes is taken.

msgspec reads and writes all of them, and refuses what others let pass: half of a character. A text that was cut in the
middle of an emoji ends with one of its two surrogates; `JSON.stringify` and `json.dumps` write that as an escape, such
as \ud83d, which RFC 8259 section 8.2 allows. Only a text that msgspec refused is looked at here a second time.
"""

import json
import re
import secrets
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import DecodeError, Raw, Struct, ValidationError

T = TypeVar("T")

DEEP = 16
"""Levels of arrays and objects that `outline` leaves as they are."""

TOO_DEEP = "JSON of too many levels of arrays and objects"


class HalfInText(ValidationError):
    """Half of a character in what has to be text, as a name: text is UTF-8, which has no halves."""


_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|u([dD][89a-fA-F][\da-fA-F]{2})|.)")
_HALF = re.compile("[\ud800-\udfff]")
_PIECE = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[{]++|[\]}]++', re.DOTALL)
_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")

LF, CR = 10, 13
"""Line ends. A number is found in bytes in 20 ns, bytes of length one take 150."""


def one_line(text: bytes) -> bytes:
    """A JSON text without line ends, of the same length: they stand between its tokens, and never within a string."""
    return text.translate(_LINE_ENDS) if LF in text or CR in text else text


class Reader(Generic[T]):
    """Reads JSON texts as one type. Its parts that are `Raw` pass through as they are written.

    decode: for texts without halves of characters, as msgspec does it. `again`: for those that it refused.
    """

    __slots__ = ("decode",)

    def __init__(self, kind: type[T]) -> None:
        self.decode: Callable[[bytes], T] = msgspec.json.Decoder(kind).decode

    def __call__(self, text: bytes) -> T:
        """Raises `DecodeError`, UnicodeDecodeError or, for more levels than the interpreter bears, RecursionError."""
        try:
            return self.decode(text)
        except ValidationError:
            raise
        except DecodeError:
            return self.again(text)

    def again(self, text: bytes) -> T:
        """As `__call__`. Half of a character may be in what is `Raw`, and is refused in what is to be text."""
        mark = _mark()
        marked = _ESCAPE.sub(lambda found: mark + found[1] if found[1] else found[0], text)
        read: T = _restored(self.decode(marked), mark)
        return read


def _mark() -> bytes:
    r"""What stands for the \u of a half while msgspec reads: random, so that no text holds it, and no number."""
    return b"x" + secrets.token_hex(8).encode()


def _restored(value: Any, mark: bytes) -> Any:
    kind = type(value)
    if kind is Raw:
        return Raw(bytes(value).replace(mark, b"\\u"))
    if kind is str and mark.decode() in value:
        raise HalfInText("half of a character (a lone surrogate) in what has to be text")
    if isinstance(value, Struct):
        for name in value.__struct_fields__:
            msgspec.structs.force_setattr(value, name, _restored(getattr(value, name), mark))
    elif kind is dict:
        return {_restored(name, mark): _restored(each, mark) for name, each in value.items()}
    elif kind in (list, tuple):
        return kind([_restored(each, mark) for each in value])
    return value


_raw = Reader(Raw)


def is_json(text: bytes) -> bool:
    """Whether it is one. text: valid UTF-8. Raises RecursionError for more levels than the interpreter bears."""
    try:
        _raw(text)
    except DecodeError:
        return False
    return True


def outline(text: bytes) -> bytes:
    """A text with `null` in place of what is deeper than `DEEP`, and no halves of characters: to refuse it by its id.

    What is left out is not looked at.
    """
    kept: list[bytes] = []
    depth = start = 0
    for piece in _PIECE.finditer(text):
        first = piece[0][:1]
        if first in b"[{":
            before, depth = depth, depth + len(piece[0])
            if before <= DEEP < depth:
                kept += [text[start : piece.start() + DEEP - before], b"null"]
        elif first != b'"':
            before, depth = depth, depth - len(piece[0])
            if depth <= DEEP < before:
                start = piece.start() + before - DEEP
    shallow = b"".join([*kept, text[start:]] if depth <= DEEP else kept)
    return _ESCAPE.sub(lambda found: b"\\ufffd" if found[1] else found[0], shallow)


def is_deeper(text: bytes, levels: int) -> bool:
    """Whether a JSON text has more levels of arrays and objects than that."""
    if text.count(b"[") + text.count(b"{") <= levels:
        return False
    depth = 0
    for piece in _PIECE.finditer(text):
        first = piece[0][:1]
        if first in b"[{":
            depth += len(piece[0])
            if depth > levels:
                return True
        elif first != b'"':
            depth -= len(piece[0])
    return False


def has_half(text: bytes) -> bool:
    """Whether half of a character is written in it."""
    return b"\\u" in text and any(found[1] for found in _ESCAPE.finditer(text))


def whole(text: bytes) -> bytes:
    """A JSON text with U+FFFD in place of each half of a character: for what has to be text, as models take it."""
    if b"\\u" not in text:
        return text
    return _ESCAPE.sub(lambda found: b"\\ufffd" if found[1] else found[0], text)


def whole_text(text: str) -> str:
    """The same of a text."""
    return text if text.isascii() else _HALF.sub("\ufffd", text)


def decode(text: bytes, kind: Any = Any) -> Any:
    r"""A text as Python values of a type, for a user's function: half of a character is a half in Python, "\ud83d".

    Raises `msgspec.DecodeError`, ValueError or RecursionError.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except DecodeError as refused:
        if isinstance(refused, ValidationError) and kind is not Any:
            raise
        try:
            value = json.loads(text.decode(), parse_constant=_no_json)
        except ValueError:
            raise refused from None
    return Raw(text) if kind is Raw else msgspec.convert(value, kind, str_keys=True)


def _no_json(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def encode(value: Any, enc_hook: Callable[[Any], Any] | None = None) -> bytes:
    """A value as UTF-8 JSON, half of a character as its escape. enc_hook: as msgspec's.

    Raises TypeError for what is neither known to msgspec nor to `enc_hook`.
    """
    try:
        return msgspec.json.encode(value, enc_hook=enc_hook)
    except UnicodeEncodeError:
        pass

    def built_in(it: Any) -> Any:
        if type(it) is Raw:
            return decode(bytes(it))
        if enc_hook is None:
            raise TypeError(f"{type(it).__qualname__} cannot be written as JSON")
        return enc_hook(it)

    mark = _mark()
    plain = msgspec.to_builtins(value, str_keys=True, enc_hook=built_in)
    return msgspec.json.encode(_marked(plain, mark.decode())).replace(mark, b"\\u")


def _marked(value: Any, mark: str) -> Any:
    if isinstance(value, str):
        return _HALF.sub(lambda half: f"{mark}{ord(half[0]):x}", value)
    if isinstance(value, dict):
        return {_marked(name, mark): _marked(each, mark) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(each, mark) for each in value]
    return value
