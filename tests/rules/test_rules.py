"""Channel rules: which rule a name gets."""

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.config import parse
from freshet.errors import ConfigError, Refusal
from freshet.model.log import History
from freshet.rules.rules import KNOWN, ChannelRule, ChannelRules

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


@pytest.mark.parametrize("pattern", ["", "{}", "{1a}", "{a}{a}", "{session}", "{data}"])
def test_a_pattern_that_cannot_be_is_a_mistake_that_is_named(pattern: str) -> None:
    with pytest.raises(ConfigError) as mistake:
        ChannelRule(pattern)
    assert mistake.value.path == "match"
    assert pattern in mistake.value.message


def test_a_pattern_of_a_configuration_that_cannot_be_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError) as mistake:
        ChannelRules().extend_from(parse({"channels": [{"match": "a"}, {"match": "b:{1a}"}]}))
    assert mistake.value.path == "channels[1].match"
    assert "name of its own" in mistake.value.message


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


HOSTILE = ["*a*b", "*a*{x}:b", "{a}-{b}-{c}", "{a}{b}{c}", "*:*:*:x", "***x", "*{a}*{b}*", "{a}.{b}*c", "*a*a*a*a*a*b"]


@pytest.mark.parametrize("unit", ["a", "-", ":", "a:", "a-", "."])
@pytest.mark.parametrize("pattern", HOSTILE)
def test_a_hostile_name_of_any_length_is_answered(pattern: str, unit: str) -> None:
    """An expression would try for minutes with 4096 bytes, the longest that can be set, and this test would not end."""
    rule = ChannelRule(pattern)
    for name in (unit * 4096, unit * 4096 + ":", "x" + unit * 4095, unit * 4096 + "b"):
        found = rule.fit(name)
        assert found is None or all(value and ":" not in value for value in found.values())


@pytest.mark.parametrize("pattern", ["orders", "chat:{room}", "{a}:{b}:{c}", "chat:*", "{a}:*", "*"])
def test_a_pattern_whose_wildcards_end_at_a_colon_or_the_end_needs_no_search(pattern: str) -> None:
    assert not hasattr(ChannelRule(pattern).fit, "__self__")


PIECES = st.lists(st.sampled_from(["a", "b", ":", "-", "*", "{}", ".", "é"]), min_size=1, max_size=7)


@given(PIECES, NAMES)
def test_every_pattern_gives_what_its_expression_would(pieces: list[str], channel: str) -> None:
    pattern, expression = "", ""
    for index, piece in enumerate(pieces):
        pattern += f"{{p{index}}}" if piece == "{}" else piece
        expression += {"{}": f"(?P<p{index}>[^:]+)", "*": ".*"}.get(piece, re.escape(piece))
    found = re.fullmatch(expression, channel, re.DOTALL)
    assert ChannelRule(pattern).fit(channel) == (found.groupdict() if found else None)


def test_wildcards_may_be_many() -> None:
    for separator in (":", "-"):
        rule = ChannelRule(separator.join(f"{{p{index}}}" for index in range(20)))
        assert rule.fit(separator.join("abcdefghijklmnopqrst")) == {
            f"p{n}": "abcdefghijklmnopqrst"[n] for n in range(20)
        }
        assert rule.fit(":" * 255) is None
        assert rule.fit("a:" * 127) is None


@pytest.mark.parametrize("character", [*".^$+?()[]\\|#& \n\t", "\\d", "(?i)"])
def test_what_means_something_in_a_regular_expression_means_itself_in_a_pattern(character: str) -> None:
    assert ChannelRule(f"a{character}b").fit(f"a{character}b") == {}
    assert ChannelRule(f"a{character}b").fit("aXb") is None
    assert ChannelRule(f"a{character}b").fit("ab") is None


@given(NAMES, NAMES)
def test_a_prefix_with_a_star_fits_all_that_begins_with_it(prefix: str, channel: str) -> None:
    literal = re.sub(r"[{}*]", "x", prefix)
    assert (ChannelRule(f"{literal}*").fit(channel) is not None) == channel.startswith(literal)


@given(st.lists(st.sampled_from(["a", "a:*", "{x}", "{x}:b", "*"]), max_size=5, unique=True), NAMES)
def test_the_first_of_the_rules_that_fit_is_found(patterns: list[str], channel: str) -> None:
    rules = ChannelRules()
    made = [ChannelRule(pattern) for pattern in patterns]
    for rule in made:
        rules.add(rule)
    fitting = [rule for rule in made if channel and rule.fit(channel) is not None]
    if fitting:
        assert rules.find(channel)[0] is fitting[0]
    else:
        with pytest.raises(Refusal):
            rules.find(channel)


def test_of_names_that_were_looked_up_only_so_many_are_known_and_none_that_no_rule_has() -> None:
    rules = ChannelRules()
    rules.add(ChannelRule("chat:{room}"))
    for index in range(3 * KNOWN):
        assert rules.find(f"chat:{index}")[1] == {"room": f"{index}"}
        with pytest.raises(Refusal):
            rules.find(f"talk:{index}")
        assert len(rules._known) <= KNOWN
    assert not hasattr(rules._rules[0], "__dict__")


def test_a_rule_that_comes_later_has_the_names_that_were_looked_up_before() -> None:
    rules = ChannelRules()
    anything, first = ChannelRule("*"), ChannelRule("{name}")
    rules.add(anything)
    assert rules.find("news") == (anything, {})
    rules.add_first(first)
    assert rules.find("news") == (first, {"name": "news"})
    assert rules.find("news:all") == (anything, {})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"join_leave": True}, "needs presence"),
        ({"history": History(size=1, ttl=math.nan)}, "more than 0 seconds"),
        ({"history": History(size=1, ttl=math.inf)}, "more than 0 seconds"),
        ({"history": History(size=0, ttl=1)}, "1 publication or more"),
        ({"history": History(size=1, ttl=0)}, "more than 0 seconds"),
        ({"history": History(size=-1, ttl=-1)}, "1 publication or more"),
    ],
)
def test_options_of_a_rule_that_cannot_be_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ChannelRule("a", **options)


def test_personal_channels_are_behind_all_rules_and_only_the_server_subscribes_to_them() -> None:
    rules = ChannelRules()
    rules.extend_from(parse({"personal_channels": True, "channels": [{"match": "#vip", "presence": True}]}))
    assert rules.find("#vip")[0].presence
    assert rules.find("#alice")[0].subscribe == "nobody"
    assert rules.find("#")[0].subscribe == "nobody"
