"""From one input to the next: what is broken, repeated, or put together from two."""

import re
from collections.abc import Callable, Sequence
from random import Random

LONGEST = 64 * 1024  # bytes of an input, as of a message by default

_TOKEN = re.compile(rb"\w+|[^\w]", re.DOTALL)
_NUMBERS = [b"0", b"-1", b"1e400", b"-0", b"2147483648", b"4294967296", b"9223372036854775807", b"18446744073709551616"]
_BYTES = [
    b"\x00",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\r\n",
    b"\n",
    b"\x0b",
    b"\x1c",
    b"\x85",
    b"\xed\xa0\x80",
    b"\xf0\x9f",
    b"\x1e",
]

Mutation = Callable[[Random, bytes, Sequence[bytes], Sequence[bytes]], bytes]
"""Given chance, the input, the words of the target's language, and the other inputs."""


def _slice(chance: Random, data: bytes, longest: int = 32) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.randrange(1, longest))


def flip(chance: Random, data: bytes, words: Sequence[bytes], pool: Sequence[bytes]) -> bytes:
    """One bit."""
    if not data:
        return b"\x00"
    at = chance.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << chance.randrange(8),)) + data[at + 1 :]


def cut(chance: Random, data: bytes, words: Sequence[bytes], pool: Sequence[bytes]) -> bytes:
    """Without a piece."""
    start, end = _slice(chance, data)
    return data[:start] + data[end:]


def end(chance: Random, data: bytes, words: Sequence[bytes], pool: Sequence[bytes]) -> bytes:
    """It ends early."""
    return data[: chance.randrange(len(data) + 1)]


def put(chance: Random, data: bytes, words: Sequence[bytes], pool: Sequence[bytes]) -> bytes:
    """A word, a number, or a byte that is special somewhere, in place of a piece or between two."""
    start, end = _slice(chance, data, 12)
    if chance.random() < 0.5:
        end = start
    return data[:start] + chance.choice(chance.choice((words or _BYTES, _NUMBERS, _BYTES))) + data[end:]


def swap(chance: Random, data: bytes, words: Sequence[bytes], pool: Sequence[bytes]) -> bytes:
    """Two tokens in each other's place."""
    if len(data) > 4096:
        return flip(chance, data, words, pool)
    tokens = _TOKEN.findall(data) or [b""]
    one, other = chance.randrange(len(tokens)), chance.randrange(len(tokens))
    tokens[one], tokens[other] = tokens[other], tokens[one]
    return b"".join(tokens)


def splice(chance: Random, data: bytes, words: Sequence[bytes], pool: Sequence[bytes]) -> bytes:
    """Begins as one input, and goes on as another."""
    other = chance.choice(pool)
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]


def repeat(chance: Random, data: bytes, words: Sequence[bytes], pool: Sequence[bytes]) -> bytes:
    """A piece again and again: mostly a few times, now and then as often as there is room."""
    start, end = _slice(chance, data, 24)
    piece = data[start:end] or b"x"
    times = chance.choice((2, 3, 10, 100)) if chance.random() < 0.97 else LONGEST // len(piece)
    return data[:start] + piece * times + data[end:]


MUTATIONS: tuple[Mutation, ...] = (flip, cut, end, put, put, swap, splice, repeat)


def mutated(chance: Random, data: bytes, words: Sequence[bytes], pool: Sequence[bytes]) -> bytes:
    """One to four of them, one after another."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = chance.choice(MUTATIONS)(chance, data, words, pool)
    return data[:LONGEST]
