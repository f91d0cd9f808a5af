"""Pieces of which inputs are put together."""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Fresh = Callable[[Random], bytes]

NAMES = [
    "a",
    "log:a",
    "room:1",
    "#alice",
    "",
    "x" * 300,
    "é",
    "\0",
    "a/b",
    "*",
    "{a}",
    "%",
    "a\nb",
    "\U0001f600",
    "__proto__",
]
NUMBERS = [0, 1, -1, 2, 255, 65536, 2**31, 2**32, 2**53, 2**63, 2**64, 10**30, 0.5, -0.0, 1e300]


def text(chance: Random) -> str:
    return chance.choice(NAMES) if chance.random() < 0.7 else "".join(chance.choices('abc "\\/\x00\x1fé\u2028', k=8))


def value(chance: Random, depth: int = 0) -> Any:
    """Any that JSON has."""
    kind = chance.randrange(8 if depth < 4 else 6)
    if kind == 6:
        return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind == 7:
        return {text(chance): value(chance, depth + 1) for _ in range(chance.randrange(4))}
    return (None, True, chance.choice(NUMBERS), text(chance), text(chance), chance.randrange(100))[kind]


def nested(chance: Random) -> str:
    """Of many levels."""
    depth = chance.choice((10, 65, 200, 1000, 2000, 20_000))
    opening, closing = chance.choice((("[", "]"), ('{"a":', "}"), ("[[],", "]")))
    return opening * depth + "1" + closing * (depth if chance.random() < 0.8 else depth - 1)


def json_text(chance: Random, it: Any = ...) -> bytes:
    """As different programs write it; now and then what only looks like it."""
    if it is ...:
        if chance.random() < 0.03:
            return nested(chance).encode()
        it = value(chance)
    written = json.dumps(
        it, ensure_ascii=chance.random() < 0.5, separators=(",", ":") if chance.random() < 0.7 else None
    )
    if chance.random() < 0.1:
        written = written.replace(",", chance.choice((" , ", "\n,", ",\t", ",,", "\r,")))
    if chance.random() < 0.05:
        written = written.replace("a", chance.choice(("\\ud83d", "\\u0000", "\\u12", "\\ud83d\\ude00", "\\udc00")))
    return written.encode("utf-8", "surrogatepass")


def maybe(chance: Random, given: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Some of these members; now and then one has any value."""
    return {
        name: value(chance) if chance.random() < 0.08 else make()
        for name, make in given.items()
        if chance.random() < 0.6
    }


def words(chance: Random, chosen: Sequence[bytes], most: int) -> bytes:
    return b"".join(chance.choices(chosen, k=chance.randrange(most)))


def cut(data: bytes, sizes: bytes) -> list[bytes]:
    """In pieces of these sizes, again and again."""
    pieces, at, turn = list[bytes](), 0, 0
    while at < len(data):
        size = (sizes[turn % len(sizes)] if sizes else 0) or len(data)
        pieces.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return pieces
