"""Reads a QR code that is whole, as a phone does: its mask is taken off, its words are put in order, none is corrected.

Source: ISO/IEC 18004, for bytes in versions 2 to 6 with error correction M.
"""

from collections.abc import Iterator

MODULES = """
const path = [...document.querySelectorAll("#code-of-talk path")].at(-1).getAttribute("d");
return [...path.matchAll(/M(\\d+) (\\d+)h1v1h-1z/g)].map(([, x, y]) => [x - 4, y - 4]);
"""
BLOCKS = {2: (1, 28), 3: (1, 44), 4: (2, 32), 5: (2, 43), 6: (4, 27)}  # how many, and the data words of each
MASKS = [
    lambda x, y: (x + y) % 2,
    lambda x, y: y % 2,
    lambda x, y: x % 3,
    lambda x, y: (x + y) % 3,
    lambda x, y: (x // 3 + y // 2) % 2,
    lambda x, y: x * y % 2 + x * y % 3,
    lambda x, y: (x * y % 2 + x * y % 3) % 2,
    lambda x, y: ((x + y) % 2 + x * y % 3) % 2,
]


def read(modules: list[list[int]]) -> str:
    """modules: where it is dark."""
    dark = {(x, y) for x, y in modules}
    size = 1 + max(x for x, _ in dark)
    version = (size - 17) // 4
    mask = MASKS[sum((((x, 8) in dark) ^ (0b101 >> (4 - x) & 1)) << (4 - x) for x in (2, 3, 4))]
    bits = [((x, y) in dark) ^ (mask(x, y) == 0) for x, y in _places(size)]
    words = [sum(bit << (7 - at) for at, bit in enumerate(bits[i : i + 8])) for i in range(0, len(bits) - 7, 8)]
    count, length = BLOCKS[version]
    data = bytes(words[block + count * at] for block in range(count) for at in range(length))
    stream = int.from_bytes(data) << 4  # behind the mode, which is four bits
    whole = stream.to_bytes(len(data) + 1)
    assert whole[0] == 4, "of bytes"
    return whole[2 : 2 + whole[1]].decode()


def _places(size: int) -> Iterator[tuple[int, int]]:
    """The modules that hold words, in their order."""
    up = True
    for right in (*range(size - 1, 6, -2), 5, 3, 1):
        for y in range(size - 1, -1, -1) if up else range(size):
            for x in (right, right - 1):
                finder = (x < 9 and y < 9) or (x < 9 and y >= size - 8) or (x >= size - 8 and y < 9)
                aligned = abs(x - (size - 7)) < 3 and abs(y - (size - 7)) < 3
                if not (finder or aligned or 6 in (x, y)):
                    yield x, y
        up = not up
