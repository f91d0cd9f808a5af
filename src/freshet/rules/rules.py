"""Channel rules: which options a channel has, by the pattern that its name matches: the first that matches wins."""

from collections.abc import Callable, Iterator
from typing import ClassVar, Literal, Self

from msgspec import structs

from freshet.config import ChannelConfig, ChannelOptions, Config, check_options
from freshet.errors import ConfigError, Refusal
from freshet.rules.hooks import Hook
from freshet.rules.patterns import Match, compile_pattern, parse

OWN = "\0"
"""With this begin the logs that the server keeps for itself, such as what was revoked: no rule is about them."""

KNOWN = 1024
"""Names of channels of which the rule is known; those that are used come back when they were forgotten."""

Owner = Literal["log", "room", "run", "roster"]
"""Who takes what is published in a channel, and gives it its place."""


class ChannelRule(ChannelOptions, eq=False):
    """One rule: a pattern, the options of the channels that it matches, and a user's hooks.

    parameters: the names in its pattern. fit: the parameters of a channel's name; None: it does not match.
    owner: who takes what is published there.

    Raises ConfigError, with the option's path within the rule, for a pattern or options that cannot be.
    """

    owner: ClassVar[Owner] = "log"
    match: str
    on_subscribe: Hook | None = None
    on_publish: Hook | None = None
    parameters: tuple[str, ...] = ()
    fit: Match = lambda channel: None

    @classmethod
    def of(cls, config: ChannelConfig) -> Self:
        return cls(**structs.asdict(config))

    def __post_init__(self) -> None:
        check_options(self.match, self)
        steps = parse(self.match)
        self.parameters = tuple(step.text for step in steps if step.kind == "{")
        self.fit = compile_pattern(steps)

    def __repr__(self) -> str:
        return f"<ChannelRule {self.match}>"


class ChannelRules:
    """All rules, in order. longest: bytes of a channel's name.

    Of so many names as `KNOWN` says it is known which rule they match, so that the expressions are seldom asked.
    """

    def __init__(self, longest: int = 255) -> None:
        self.make: Callable[[ChannelConfig], ChannelRule] = ChannelRule.of  # of one in a configuration
        self._longest = longest
        self._rules: list[ChannelRule] = []
        self._known: dict[str, tuple[ChannelRule, dict[str, str]]] = {}

    def __iter__(self) -> Iterator[ChannelRule]:
        return iter(self._rules)

    def add(self, rule: ChannelRule) -> None:
        self._rules.append(rule)
        self._known.clear()

    def add_first(self, rule: ChannelRule) -> None:
        """Before all that there are: for channels of Freshet's own."""
        self._rules.insert(0, rule)
        self._known.clear()

    def extend_from(self, config: Config) -> None:
        """The rules of a configuration, behind those that there are. Raises ConfigError with the rule's path."""
        for index, each in enumerate(config.channels):
            try:
                self.add(self.make(each))
            except ConfigError as error:
                raise ConfigError(f"channels[{index}].{error.path}", error.message) from None
        if config.personal_channels:
            self.add(ChannelRule("#*", subscribe="nobody"))

    def find(self, channel: str) -> tuple[ChannelRule, dict[str, str]]:
        """The first rule that a channel matches, and the parameters of its name, which are not to be changed.

        Raises `Refusal` 102 when there is none, 107 for what cannot be a channel's name.
        """
        known = self._known.get(channel)
        return known if known is not None else self._match(channel)

    def _match(self, channel: str) -> tuple[ChannelRule, dict[str, str]]:
        if not channel:
            raise Refusal.bad_request("channel: expected a name")
        # Most names are as many bytes as characters, and short enough.
        if not (channel.isascii() and len(channel) <= self._longest):
            self._check_length(channel)
        for rule in self._rules if channel[0] != OWN else ():
            parameters = rule.fit(channel)
            if parameters is not None:
                if len(self._known) >= KNOWN:
                    self._known.clear()
                self._known[channel] = found = (rule, parameters)
                return found
        raise Refusal.unknown_channel(f"no rule for channel {channel!r}")

    def owner(self, channel: str) -> str:
        """Who takes what is published in a channel; empty when there is no such channel."""
        try:
            return self.find(channel)[0].owner
        except Refusal:
            return ""

    def _check_length(self, channel: str) -> None:
        try:
            size = len(channel.encode())
        except UnicodeEncodeError:
            raise Refusal.bad_request("channel: expected text, half of a character is none") from None
        if size > self._longest:
            raise Refusal.bad_request(f"channel: at most {self._longest} bytes")


def personal_channel(user: str) -> str:
    """The channel that belongs to one user alone."""
    return f"#{user}"
