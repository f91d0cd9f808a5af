"""Fossil deltas: what turns one value into the next, in the bytes that official clients know how to apply.

A delta is the length of the target, pieces that are copied from the source (`length@offset,`) or are new
(`length:bytes`), and a checksum of the target. Source: the page "Delta Format" of the Fossil documentation.

Time and memory are linear in the size of both values.
"""

import struct

_DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
BLOCK = 16
"""Bytes of the blocks by which the source is indexed: a common piece that is shorter may not be found."""


def create(source: bytes, target: bytes) -> bytes:
    """The delta that turns `source` into `target`.

    No new piece begins or ends within a character of UTF-8, so that a delta of two texts is a text too.
    """
    head = _within(target, _common(source, 0, target, 0))
    tail = _common_end(source[head:], target[head:])
    end = len(target) - tail
    end += _continued(target, end)
    out = [_number(len(target)), b"\n"]
    if head:
        out.append(_copy(head, 0))
    _search(out, source, target, head, end)
    if end < len(target):
        out.append(_copy(len(target) - end, len(source) - len(target) + end))
    out += [_number(checksum(target)), b";"]
    return b"".join(out)


def checksum(data: bytes) -> int:
    """The sum, modulo 2**32, of the big-endian words of 32 bits; the last one is padded with zeros."""
    count = -(-len(data) // 4)
    words: tuple[int, ...] = struct.unpack(f">{count}I", data.ljust(4 * count, b"\0"))
    return sum(words) & 0xFFFFFFFF


def _search(out: list[bytes], source: bytes, target: bytes, at: int, end: int) -> None:
    """The part of the target between those that are equal at the start and at the end."""
    if end - at < BLOCK:
        return _insert(out, target[at:end])
    blocks = {source[place : place + BLOCK]: place for place in range(0, len(source) - BLOCK + 1, BLOCK)}
    new = at  # the target from here on is not in the delta yet
    while at <= end - BLOCK:
        place = blocks.get(target[at : at + BLOCK])
        if place is None:
            at += 1
            continue
        back = _back(source, place, target, at, at - new)
        place, at = place - back, at - back
        skip = _continued(target, at)
        place, at = place + skip, at + skip
        length = _within(target, at + min(_common(source, place, target, at), end - at)) - at
        _insert(out, target[new:at])
        out.append(_copy(length, place))
        new = at = at + length
    return _insert(out, target[new:end])


def _back(source: bytes, place: int, target: bytes, at: int, most: int) -> int:
    """How many bytes before the two places are equal: less than a block, since a whole one was found already."""
    back = 0
    while back < min(most, place, BLOCK) and source[place - back - 1] == target[at - back - 1]:
        back += 1
    return back


def _common(source: bytes, place: int, target: bytes, at: int) -> int:
    """How many bytes from the two places on are equal, compared in steps that double."""
    same, step = 0, 64
    while True:
        one, other = source[place + same : place + same + step], target[at + same : at + same + step]
        size = min(len(one), len(other))
        differ = int.from_bytes(one[:size]) ^ int.from_bytes(other[:size])
        same += size - (differ.bit_length() + 7) // 8
        if differ or size < step:
            return same
        step *= 2


def _common_end(one: bytes, other: bytes) -> int:
    """How many bytes at the two ends are equal."""
    return _common(one[::-1], 0, other[::-1], 0)


def _continued(target: bytes, at: int) -> int:
    """How many bytes from here on belong to a character of UTF-8 that began before."""
    for count in range(4):
        if at + count >= len(target) or target[at + count] & 0xC0 != 0x80:
            return count
    return 0


def _within(target: bytes, end: int) -> int:
    """The last place up to `end` that cuts no character of UTF-8."""
    for place in range(end, max(-1, end - 4), -1):
        if place == len(target) or target[place] & 0xC0 != 0x80:
            return place
    return end


def _number(number: int) -> bytes:
    digits = bytearray()
    while True:
        digits.append(_DIGITS[number & 63])
        number >>= 6
        if not number:
            return bytes(reversed(digits))


def _copy(length: int, place: int) -> bytes:
    return b"%b@%b," % (_number(length), _number(place))


def _insert(out: list[bytes], data: bytes) -> None:
    if data:
        out.append(b"%b:%b" % (_number(len(data)), data))
