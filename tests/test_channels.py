"""Channel rules: which rule a name gets."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.channels import LOOSE, ChannelRule, ChannelRules
from freshet.errors import ConfigError, Refusal

NAMES = st.text(st.sampled_from("ab:-_.{}*é"), max_size=12)


@pytest.mark.parametrize(
    ("pattern", "channel", "parameters"),
    [
        ("orders", "orders", {}),
        ("orders", "orders2", None),
        ("chat:{room}", "chat:lobby", {"room": "lobby"}),
        ("chat:{room}", "chat:", None),
        ("chat:{room}", "chat:a:b", None),
        ("chat:*", "chat:a:b", {}),
        ("chat:*", "chat:", {}),
        ("{a}:{b}", "x:y", {"a": "x", "b": "y"}),
        ("*", "", {}),
        ("*", "line\nbreak", {}),
        ("a.c", "abc", None),
        ("{room}-{side}", "x-left", {"room": "x", "side": "left"}),
    ],
)
def test_a_pattern_fits_a_name_or_not(pattern: str, channel: str, parameters: dict[str, str] | None) -> None:
    assert ChannelRule(pattern).fit(channel) == parameters


def test_the_first_rule_that_fits_wins_and_a_name_without_one_is_refused() -> None:
    rules = ChannelRules()
    first, second = ChannelRule("chat:vip"), ChannelRule("chat:{room}")
    rules.add(first)
    rules.add(second)
    assert rules.find("chat:vip") == (first, {})
    assert rules.find("chat:lobby") == (second, {"room": "lobby"})
    with pytest.raises(Refusal, match="nowhere") as refusal:
        rules.find("nowhere")
    assert refusal.value.code == 102


@pytest.mark.parametrize("pattern", ["", "{}", "{1a}", "{a}{a}", "{session}", "{data}", "*a*b*c", "{a}b{c}d{e}f"])
def test_a_pattern_that_cannot_be_is_a_mistake_that_is_named(pattern: str) -> None:
    with pytest.raises(ConfigError):
        ChannelRule(pattern)


@given(NAMES, NAMES)
def test_a_literal_pattern_fits_its_own_name_only(pattern: str, channel: str) -> None:
    literal = re.sub(r"[{}*]", "x", pattern) or "x"
    assert (ChannelRule(literal).fit(channel) is not None) == (literal == channel)


@given(NAMES, NAMES)
def test_names_with_the_same_letters_across_a_colon_are_not_mixed_up(left: str, right: str) -> None:
    found = ChannelRule("{left}:{right}").fit(f"{left}:{right}")
    if ":" in left + right or not left or not right:
        assert found is None or f"{found['left']}:{found['right']}" == f"{left}:{right}"
    else:
        assert found == {"left": left, "right": right}


def test_a_hostile_name_costs_a_bounded_number_of_steps() -> None:
    """With LOOSE wildcards the steps grow with the square of a name, which is 255 bytes at most."""
    assert LOOSE == 2
    rule = ChannelRule("*a*b")
    assert rule.fit("a" * 255) is None
