"""What a token lets its client do, by patterns of channels."""

import pytest

from freshet.errors import ConfigError
from freshet.rules.capabilities import Capabilities, Capability, Deed

DEEDS: tuple[Deed, ...] = ("subscribe", "publish", "presence", "history")


def test_what_is_listed_is_allowed_in_the_channels_that_match_and_nothing_else() -> None:
    caps = Capabilities(
        [Capability(["news", "chat:*"], ["subscribe", "history"]), Capability(["chat:{room}"], ["publish"])]
    )
    allowed = {
        (deed, channel)
        for deed in DEEDS
        for channel in ("news", "newsroom", "chat:1", "chat:1:2", "chat", "")
        if caps.allow(deed, channel)
    }
    assert allowed == {
        ("subscribe", "news"),
        ("history", "news"),
        ("subscribe", "chat:1"),
        ("history", "chat:1"),
        ("subscribe", "chat:1:2"),
        ("history", "chat:1:2"),
        ("publish", "chat:1"),
    }


def test_an_empty_list_allows_nothing() -> None:
    for caps in (Capabilities([]), Capabilities([Capability([], ["publish"])]), Capabilities([Capability(["*"], [])])):
        assert not any(caps.allow(deed, "news") for deed in DEEDS)


@pytest.mark.parametrize("pattern", ["", "{1a}", "{a}{a}"])
def test_a_pattern_that_cannot_be_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError):
        Capabilities([Capability([pattern], ["publish"])])
