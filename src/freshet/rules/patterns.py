"""Which names a channel pattern matches, and the parameters that they hold.

In a pattern `{name}` stands for one or more characters except `:`, and `*` for anything, also nothing. Names come from
clients: matching one takes time in proportion to its length, whatever the pattern, and nothing about it is kept here.
"""

import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from freshet.errors import ConfigError

_PIECE = re.compile(r"\{([^{}]*)\}|(\*)")


Match = Callable[[str], dict[str, str] | None]


class Step(NamedTuple):
    """A piece of a pattern. kind: `=` is the text itself, `{` a parameter of that name, `*` anything."""

    kind: Literal["=", "{", "*"]
    text: str


def parse(pattern: str) -> list[Step]:
    """The pieces of a pattern, literals one character each. Raises ConfigError."""
    if not pattern:
        raise ConfigError("match", "a pattern is not empty")
    steps: list[Step] = []
    end = 0
    for piece in _PIECE.finditer(pattern):
        steps += [Step("=", character) for character in pattern[end : piece.start()]]
        end = piece.end()
        step = Step("*", "") if piece[2] else Step("{", piece[1])
        if step.kind == "{" and (not step.text.isidentifier() or step in steps or step.text in ("session", "data")):
            raise ConfigError(
                "match", f"{pattern!r}: {{{step.text}}}: expected a name of its own, other than session and data"
            )
        steps.append(step)
    steps += [Step("=", character) for character in pattern[end:]]
    if Step("=", "{") in steps or Step("=", "}") in steps:
        raise ConfigError("match", f"{pattern!r}: a brace without its partner; a parameter is written {{name}}")
    return steps


def _settled(steps: Sequence[Step]) -> bool:
    """Whether it is clear at once how far each wildcard goes: a parameter to a colon or the end, a star to the end."""
    behind = {"{": (None, Step("=", ":")), "*": (None,)}
    return all(
        step.kind == "=" or after in behind[step.kind] for step, after in zip(steps, [*steps[1:], None], strict=True)
    )


def compile_pattern(steps: Sequence[Step]) -> Match:
    """What gives the parameters of a name, or None when it does not fit.

    An expression that never goes back is fastest. One that has to try takes time with a power of the name's length.
    """
    if not _settled(steps):
        return _Search(steps).fit
    written = {"=": "{}", "{": "(?P<{}>[^:]++)", "*": ".*{}"}
    expression = "".join(written[step.kind].format(re.escape(step.text)) for step in steps)
    fullmatch = re.compile(expression, re.DOTALL).fullmatch

    def fit(channel: str) -> dict[str, str] | None:
        found = fullmatch(channel)
        return found.groupdict() if found else None

    return fit


class _Search:
    """Matches any pattern in linear time, by sets of places that are the bits of one number.

    Bit n of a set stands for the place that has n characters behind it. From the pattern's end to its start, each step
    moves all places at once; then, from start to end, every wildcard takes as much as it can, the first one first.
    """

    __slots__ = ("_steps",)

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = tuple(steps)

    def fit(self, channel: str) -> dict[str, str] | None:
        rest = len(channel)
        places = self._places(channel)
        if len(places) <= len(self._steps) or not places[-1] >> rest & 1:
            return None
        found: dict[str, str] = {}
        for step, after in zip(self._steps, reversed(places[:-1]), strict=True):
            if step.kind == "=":
                rest -= 1
                continue
            start = len(channel) - rest
            colon = channel.find(":", start) if step.kind == "{" else -1
            least = len(channel) - colon if colon >= 0 else 0
            possible = after >> least
            rest = least + (possible & -possible).bit_length() - 1
            if step.kind == "{":
                found[step.text] = channel[start : len(channel) - rest]
        return found

    def _places(self, channel: str) -> list[int]:
        """After each step, the last first, the places from which the steps so far fit; it ends where there are none."""
        everything = (1 << len(channel) + 1) - 1
        of = {
            character: _bits(channel, character)
            for character in {":", *(step.text for step in self._steps)}
            if character
        }
        word = everything >> 1 & ~of[":"]
        places = [1]
        for step in reversed(self._steps):
            now = places[-1]
            if step.kind == "=":
                now = (now & of[step.text]) << 1
            elif step.kind == "*":
                now = everything & -(now & -now)
            else:
                # The addition carries from each place through all characters that follow without a colon.
                now = ((((now & word) + word) ^ word | now) & word) << 1
            if not now:
                break
            places.append(now)
        return places


def _bits(channel: str, character: str) -> int:
    """A number with a bit for each place that is right behind such a character."""
    return int("1".join("0" * len(part) for part in channel.split(character)) or "0", 2)
