"""Which route a message has, by what is in it."""

import pytest

from freshet.endpoints.gateway.selection import Selection
from freshet.errors import ConfigError


@pytest.mark.parametrize(
    ("expression", "body", "key"),
    [
        ("$request.body.action", b'{"action":"send"}', "send"),
        ("${request.body.action}", b'{"action":"send"}', "send"),
        ("$request.body.a.b", b'{"a":{"b":"deep"}}', "deep"),
        ("${request.body.a}/${request.body.b}", b'{"a":"x","b":"y"}', "x/y"),
        ("$request.body.a/$request.body.b", b'{"a":"x"}', "x/"),
        ("v1-$request.body.action", b'{"action":"send"}', "v1-send"),
        ("always", b"whatever", "always"),
        (r"\$default", b"{}", "$default"),
        ("$request.body.number", b'{"number":7}', "7"),
        ("$request.body.flag", b'{"flag":true}', "true"),
        ("$request.body.action", b'{"action":{"a":1}}', ""),
        ("$request.body.action", b'{"action":null}', ""),
        ("$request.body.action", b"{}", ""),
        ("$request.body.action", b"[1]", ""),
        ("$request.body.a.b", b'{"a":7}', ""),
        ("$request.body.action", b"not JSON", ""),
        ("$request.body.action", b"", ""),
        ("$request.body.action", b"[" * 100_000, ""),
        ("$request.body.action", b'{"action":"send","text":"\\ud800"}', "send"),
    ],
)
def test_an_expression_selects_by_what_is_in_the_message(expression: str, body: bytes, key: str) -> None:
    if expression == "always":
        body = b"{}"
    assert Selection(expression).key(body) == key


@pytest.mark.parametrize("expression", ["$context.routeKey", "$request.header.a", "$request.body.", "${request.body.a"])
def test_an_expression_that_cannot_be_evaluated_is_refused_with_what_is_allowed(expression: str) -> None:
    with pytest.raises(ConfigError, match=r"gateway.selection.*request\.body\.name"):
        Selection(expression)
