"""Which of the checks a token goes to, and what is there without a secret."""

from typing import Any

import pytest

from freshet.config import TokenKey, Tokens
from freshet.engines.memory import MemoryEngine
from freshet.errors import ConfigError, Disconnect, Refusal
from freshet.model.frame import Handshake
from freshet.policy.authentication import Authentication, why_nobody

SECRET = "a secret for tests, thirty-two bytes"


def authentication(secret: str | None = None, *, dev: bool = False, **tokens: Any) -> Authentication:
    return Authentication.from_config(Tokens(**tokens), secret, MemoryEngine(), environment={}, dev=dev)


async def nobody(token: str) -> None:
    """An application that knows no token."""


def test_a_secret_that_was_made_up_is_for_its_own_tokens_alone() -> None:
    one, other = authentication(dev=True), authentication(dev=True)
    assert not one.has_secret
    assert one.connection(one.issue("alice")).user == "alice"  # type: ignore[union-attr]
    with pytest.raises(Disconnect):
        other.connection(one.issue("alice"))
    assert authentication(SECRET).has_secret
    assert authentication(SECRET, dev=True).has_secret
    assert authentication(dev=True, keys=[TokenKey(kid="a", secret=SECRET)]).has_secret


async def test_without_a_key_no_token_is_right_and_none_can_be_made() -> None:
    none = authentication()
    assert (none.verifies, none.has_secret) == (False, False)
    assert "FRESHET_SECRET" in why_nobody(none)
    with pytest.raises(Disconnect, match="FRESHET_SECRET"):
        none.connection("a.b.c")
    with pytest.raises(Refusal, match="no secret"):
        none.subscription("a.b.c", "a", "alice")
    for make in (none.issue, none.ticket):
        with pytest.raises(ConfigError, match="FRESHET_SECRET"):
            make("alice")  # type: ignore[operator]
    none.ask(nobody, 60, 5)
    assert none.verifies
    assert none.has_secret
    assert why_nobody(none) == "a token is required"
    await none.stop()


@pytest.mark.parametrize(
    ("request_", "token"),
    [
        (Handshake("/"), ""),
        (Handshake("/", query={"token": "q"}), "q"),
        (Handshake("/", query={"token": "q", "ticket": "t"}), "t"),
        (Handshake("/", {"token": "q"}, subprotocols=("freshet", "freshet.token.s")), "s"),
        (Handshake("/", headers={"authorization": "Bearer b"}), "b"),
        (Handshake("/", headers={"authorization": "bEaReR  b "}), "b"),
        (Handshake("/", headers={"authorization": "Basic b"}), ""),
        (Handshake("/", headers={"cookie": "a=1; live=c; live=d"}), "c"),
        (Handshake("/", headers={"cookie": 'live="c"'}), "c"),
        (Handshake("/", headers={"cookie": "xlive=c; live"}), ""),
        (Handshake("/", headers={"authorization": "Bearer b", "cookie": "live=c"}), "b"),
    ],
)
def test_a_request_carries_a_token_by_one_of_several_doors(request_: Handshake, token: str) -> None:
    assert authentication(SECRET, cookie="live").carried(request_) == token
    assert authentication(cookie="live").carried(request_) == ""
