"""What a token lets its client do in which channels: the claim `caps`.

    "caps": [{"channels": ["news", "chat:*"], "allow": ["subscribe", "presence"]}]

A client whose token has it does what it lists and nothing else, within what the rule of a channel says; what a rule
leaves to tokens (`subscribe = "token"`, `publish = "token"`), it grants.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import msgspec

from freshet.rules.patterns import Match, compile_pattern, parse

Deed = Literal["subscribe", "publish", "presence", "history", "manage"]

PATTERNS = 1000  # compiled ones that are kept: the same come with many tokens


class Capability(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """channels: patterns, as in a channel rule. allow: what may be done there."""

    channels: list[str]
    allow: list[Deed]


class Capabilities:
    """All that one token allows. Raises ConfigError for a pattern that cannot be."""

    __slots__ = ("_patterns",)

    def __init__(self, listed: Sequence[Capability]) -> None:
        patterns: dict[str, list[Match]] = {}
        for each in listed:
            for deed in each.allow:
                patterns.setdefault(deed, []).extend(map(_compiled, each.channels))
        self._patterns = patterns

    def allow(self, deed: Deed, channel: str) -> bool:
        return any(fit(channel) is not None for fit in self._patterns.get(deed, ()))


@lru_cache(PATTERNS)
def _compiled(pattern: str) -> Match:
    return compile_pattern(parse(pattern))
