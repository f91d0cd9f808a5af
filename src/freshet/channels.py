"""Channel rules: which options a channel has, by the pattern that its name fits.

In a pattern `{name}` stands for one or more characters except `:`, and `*` for anything, also nothing. The first rule
whose pattern fits wins. Names come from clients: matching one takes a bounded number of steps, and
nothing about it is kept.
"""

import re
from typing import TYPE_CHECKING, Literal

from freshet.config import ChannelConfig, Config
from freshet.errors import ConfigError, Refusal
from freshet.model import History

if TYPE_CHECKING:
    from freshet.hooks import Hook

_PIECE = re.compile(r"\{([^{}]*)\}|(\*)")
LOOSE = 2  # wildcards in one pattern that can end anywhere; more would make matching a hostile name slow


class ChannelRule:
    """One rule. parameters: the names in its pattern. on_subscribe, on_publish: a user's hooks.

    Raises ConfigError for a pattern that cannot be.
    """

    __slots__ = (
        "_fits",
        "history",
        "join_leave",
        "match",
        "on_publish",
        "on_subscribe",
        "parameters",
        "presence",
        "publish",
        "read",
        "subscribe",
    )

    def __init__(
        self,
        match: str,
        *,
        history: History | None = None,
        presence: bool = False,
        join_leave: bool = False,
        subscribe: Literal["nobody", "token", "client"] = "client",
        publish: Literal["nobody", "subscriber", "client"] = "nobody",
        read: Literal["nobody", "subscriber", "client"] = "subscriber",
    ) -> None:
        if join_leave and not presence:
            raise ConfigError(match, "join_leave needs presence")
        if history is not None and (history.size < 1 or history.ttl <= 0):
            raise ConfigError(match, f"history: expected size >= 1 and ttl > 0 seconds, got {history}")
        self.match = match
        self.history = history
        self.presence = presence
        self.join_leave = join_leave
        self.subscribe = subscribe
        self.publish = publish
        self.read = read
        self.on_subscribe: Hook | None = None
        self.on_publish: Hook | None = None
        self.parameters, expression = _compile(match)
        self._fits = re.compile(expression, re.DOTALL).fullmatch

    @classmethod
    def from_config(cls, config: ChannelConfig) -> "ChannelRule":
        return cls(
            config.match,
            history=config.history,
            presence=config.presence,
            join_leave=config.join_leave,
            subscribe=config.subscribe,
            publish=config.publish,
            read=config.read,
        )

    def __repr__(self) -> str:
        return f"<ChannelRule {self.match}>"

    def fit(self, channel: str) -> dict[str, str] | None:
        """The parameters of a channel's name; None when it does not fit."""
        found = self._fits(channel)
        return found.groupdict() if found else None


def _compile(pattern: str) -> tuple[tuple[str, ...], str]:
    """The names in a pattern, and the regular expression that it means."""
    names: list[str] = []
    expression, end, loose = "", 0, 0
    for piece in _PIECE.finditer(pattern):
        expression += re.escape(pattern[end : piece.start()])
        end = piece.end()
        rest = pattern[end:]
        if rest and (piece[2] or not rest.startswith(":")):
            loose += 1
        if piece[2]:
            expression += ".*"
            continue
        name = piece[1]
        if not name.isidentifier() or name in names or name in ("session", "data"):
            raise ConfigError(pattern, f"{{{name}}}: expected a name of its own, other than session and data")
        names.append(name)
        expression += f"(?P<{name}>[^:]+)"
    expression += re.escape(pattern[end:])
    if not pattern:
        raise ConfigError("match", "a pattern is not empty")
    if loose > LOOSE:
        raise ConfigError(pattern, f"at most {LOOSE} of {{name}} and * that neither a colon nor the end follows")
    return tuple(names), expression


class ChannelRules:
    """All rules, in order."""

    def __init__(self) -> None:
        self._rules: list[ChannelRule] = []

    def add(self, rule: ChannelRule) -> None:
        self._rules.append(rule)

    def extend_from(self, config: Config) -> None:
        """The rules of a configuration, behind those that there are."""
        for each in config.channels:
            self.add(ChannelRule.from_config(each))
        if config.personal_channels:
            self.add(ChannelRule("#*", subscribe="nobody"))

    def find(self, channel: str) -> tuple[ChannelRule, dict[str, str]]:
        """The first rule that a channel fits, and the parameters of its name. Raises `Refusal` 102."""
        for rule in self._rules:
            parameters = rule.fit(channel)
            if parameters is not None:
                return rule, parameters
        raise Refusal.unknown_channel(f"no rule for channel {channel!r}")
