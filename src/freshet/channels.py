"""Channel rules: which options a channel has, by the pattern that its name fits.

In a pattern `{name}` stands for one or more characters except `:`, and `*` for anything, also nothing. The first rule
whose pattern fits wins. Names come from clients: matching one takes time in proportion to its length, whatever the
pattern, and nothing about it is kept.
"""

import re
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple

from freshet.config import ChannelConfig, Config
from freshet.errors import ConfigError, Refusal
from freshet.model import History

if TYPE_CHECKING:
    from freshet.hooks import Hook

_PIECE = re.compile(r"\{([^{}]*)\}|(\*)")


Fit = Callable[[str], dict[str, str] | None]
Slow = Literal["disconnect", "drop_oldest", "latest"]


class _Step(NamedTuple):
    """A piece of a pattern. kind: `=` is the text itself, `{` a parameter of that name, `*` anything."""

    kind: Literal["=", "{", "*"]
    text: str


def _parse(pattern: str) -> list[_Step]:
    """The pieces of a pattern, literals one character each. Raises ConfigError."""
    if not pattern:
        raise ConfigError("match", "a pattern is not empty")
    steps: list[_Step] = []
    end = 0
    for piece in _PIECE.finditer(pattern):
        steps += [_Step("=", character) for character in pattern[end : piece.start()]]
        end = piece.end()
        step = _Step("*", "") if piece[2] else _Step("{", piece[1])
        if step.kind == "{" and (not step.text.isidentifier() or step in steps or step.text in ("session", "data")):
            raise ConfigError(
                "match", f"{pattern!r}: {{{step.text}}}: expected a name of its own, other than session and data"
            )
        steps.append(step)
    return steps + [_Step("=", character) for character in pattern[end:]]


def _settled(steps: Sequence[_Step]) -> bool:
    """Whether it is clear at once how far each wildcard goes: a parameter to a colon or the end, a star to the end."""
    behind = {"{": (None, _Step("=", ":")), "*": (None,)}
    return all(
        step.kind == "=" or after in behind[step.kind] for step, after in zip(steps, [*steps[1:], None], strict=True)
    )


def _compile(steps: Sequence[_Step]) -> Fit:
    """What tells the parameters of a name, or None when it does not fit.

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

    def __init__(self, steps: Sequence[_Step]) -> None:
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


class ChannelRule:
    """One rule. parameters: the names in its pattern. on_subscribe, on_publish: a user's hooks.

    fit: gives the parameters of a channel's name, None when it does not fit.

    Raises ConfigError, with the option's path within the rule, for a pattern or options that cannot be.
    """

    __slots__ = (
        "delta",
        "fit",
        "history",
        "join_leave",
        "match",
        "on_publish",
        "on_subscribe",
        "parameters",
        "presence",
        "publish",
        "read",
        "slow",
        "subscribe",
    )

    def __init__(
        self,
        match: str,
        *,
        history: History | None = None,
        presence: bool = False,
        join_leave: bool = False,
        delta: bool = False,
        slow: Slow = "disconnect",
        subscribe: Literal["nobody", "token", "client"] = "client",
        publish: Literal["nobody", "subscriber", "client"] = "nobody",
        read: Literal["nobody", "subscriber", "client"] = "subscriber",
    ) -> None:
        if join_leave and not presence:
            raise ConfigError("join_leave", f"the rule {match!r} needs presence = true for it")
        if history is not None and not (history.size >= 1 and 0 < history.ttl < inf):
            raise ConfigError("history", f"the rule {match!r} needs size >= 1 and ttl > 0 seconds, got {history}")
        if delta and slow != "disconnect":
            raise ConfigError("slow", f"the rule {match!r} has delta, which needs all that {slow!r} drops")
        self.match = match
        self.history = history
        self.presence = presence
        self.join_leave = join_leave
        self.delta = delta
        self.slow = slow
        self.subscribe = subscribe
        self.publish = publish
        self.read = read
        self.on_subscribe: Hook | None = None
        self.on_publish: Hook | None = None
        steps = _parse(match)
        self.parameters = tuple(step.text for step in steps if step.kind == "{")
        self.fit = _compile(steps)

    @classmethod
    def from_config(cls, config: ChannelConfig) -> "ChannelRule":
        return cls(
            config.match,
            history=config.history,
            presence=config.presence,
            join_leave=config.join_leave,
            delta=config.delta,
            slow=config.slow,
            subscribe=config.subscribe,
            publish=config.publish,
            read=config.read,
        )

    def __repr__(self) -> str:
        return f"<ChannelRule {self.match}>"


class ChannelRules:
    """All rules, in order."""

    def __init__(self) -> None:
        self._rules: list[ChannelRule] = []

    def add(self, rule: ChannelRule) -> None:
        self._rules.append(rule)

    def add_first(self, rule: ChannelRule) -> None:
        """Before all that there are: for channels of Freshet's own."""
        self._rules.insert(0, rule)

    def extend_from(self, config: Config) -> None:
        """The rules of a configuration, behind those that there are. Raises ConfigError with the rule's path."""
        for index, each in enumerate(config.channels):
            try:
                self.add(ChannelRule.from_config(each))
            except ConfigError as error:
                raise ConfigError(f"channels[{index}].{error.path}", error.message) from None
        if config.personal_channels:
            self.add(ChannelRule("#*", subscribe="nobody"))

    def find(self, channel: str) -> tuple[ChannelRule, dict[str, str]]:
        """The first rule that a channel fits, and the parameters of its name. Raises `Refusal` 102."""
        for rule in self._rules:
            parameters = rule.fit(channel)
            if parameters is not None:
                return rule, parameters
        raise Refusal.unknown_channel(f"no rule for channel {channel!r}")
