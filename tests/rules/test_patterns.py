"""Patterns: their pieces, and which names they match. What rules make of them is in test_rules.py."""

import pytest

from freshet.errors import ConfigError
from freshet.rules.patterns import Step, compile_pattern, parse


def shape(pattern: str) -> str:
    """Its pieces in short: a literal as it is, a parameter as `<name>`, `*`."""
    return "".join(f"<{step.text}>" if step.kind == "{" else step.text or "*" for step in parse(pattern))


@pytest.mark.parametrize(
    ("pattern", "pieces"),
    [
        ("a", "a"),
        ("chat:{room}", "chat:<room>"),
        ("{a}{b}", "<a><b>"),
        ("*a*", "*a*"),
        ("{größe}:é", "<größe>:é"),
        ("a.+?", "a.+?"),
    ],
)
def test_a_pattern_has_literals_parameters_and_stars(pattern: str, pieces: str) -> None:
    assert shape(pattern) == pieces


def test_literals_are_one_character_each() -> None:
    assert parse("ab{x}*") == [Step("=", "a"), Step("=", "b"), Step("{", "x"), Step("*", "")]


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "not empty"),
        ("{}", "a name of its own"),
        ("a:{1}", "a name of its own"),
        ("{a b}", "a name of its own"),
        ("{a}:{a}", "a name of its own"),
        ("{session}", "other than session and data"),
        ("{data}", "other than session and data"),
        ("a}b", "brace without its partner"),
        ("chat:{room", "brace without its partner"),
        ("{{a}", "brace without its partner"),
    ],
)
def test_what_cannot_be_a_pattern_is_refused_and_says_why(pattern: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        parse(pattern)
    assert error.value.path == "match"


@pytest.mark.parametrize(
    ("pattern", "name", "parameters"),
    [
        # It is clear at once how far each wildcard goes.
        ("{a}:{b}", "x:y", {"a": "x", "b": "y"}),
        ("{a}:{b}", "x:y:z", None),
        ("{a}:*", "x:y:z", {"a": "x"}),
        ("{a}:*", ":y", None),
        ("*", "", {}),
        ("a", "a\n", None),
        ("a*", "a\nb", {}),
        ("{a}", "a\nb", {"a": "a\nb"}),
        # It has to be found: each takes as much as it can, the first one first.
        ("{a}{b}", "xyz", {"a": "xy", "b": "z"}),
        ("{a}{b}", "x", None),
        ("{a}-{b}", "x-y-z", {"a": "x-y", "b": "z"}),
        ("{a}-{b}", "x:-y", None),
        ("*{a}", "x:yz", {"a": "z"}),
        ("*:{a}:end", "1:2:3:end", {"a": "3"}),
        ("*{a}*", ":", None),
        ("{a}.*x", "é.yxzx", {"a": "é"}),
        ("{a}*", "xy", {"a": "xy"}),
        ("a*", "", None),
    ],
)
def test_a_pattern_gives_the_parameters_of_a_name_that_it_matches(
    pattern: str, name: str, parameters: dict[str, str] | None
) -> None:
    assert compile_pattern(parse(pattern))(name) == parameters
