"""Channel rules: which options a channel has, by the pattern that its name matches: the first that matches wins."""

from math import inf
from typing import TYPE_CHECKING, Literal

from freshet.config import ChannelConfig, Config
from freshet.errors import ConfigError, Refusal
from freshet.model.log import History
from freshet.rules.patterns import compile_pattern, parse

if TYPE_CHECKING:
    from freshet.rules.hooks import Hook

Slow = Literal["disconnect", "drop_oldest", "latest"]


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
        steps = parse(match)
        self.parameters = tuple(step.text for step in steps if step.kind == "{")
        self.fit = compile_pattern(steps)

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
