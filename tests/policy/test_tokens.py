"""Clients' tokens: what passes, and what does not, however it is made."""

import base64
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.errors import Disconnect, Refusal
from freshet.policy.tokens import TokenVerifier, issue

SECRET = "a secret for tests, as long as HS512 wants it: sixty-four bytes...."
verifier = TokenVerifier(SECRET)


def signed(algorithm: str = "HS256", key: str = SECRET, **claims: Any) -> str:
    return jwt.encode(claims, key, algorithm)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_right_token_says_who_it_is(algorithm: str) -> None:
    token = issue(SECRET, "alice", expires_in=60, info={"name": "Alice"}, channels=["news"], algorithm=algorithm)
    claims = verifier.connection(token)
    assert claims.user == "alice"
    assert json.loads(bytes(claims.info)) == {"name": "Alice"}
    assert claims.channels == ["news"]
    assert claims.expires_at is not None
    assert 55 < claims.expires_at - time.time() <= 60


def unsigned(header: dict[str, str]) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, {"sub": "alice"})]
    return (b".".join(parts) + b".").decode()


WRONG = {
    "nothing": "",
    "no token": "a.b.c",
    "another key": signed(key="another secret, as long as HS512 wants it: sixty-four bytes.......", sub="alice"),
    "alg none": unsigned({"alg": "none", "typ": "JWT"}),
    "alg None": unsigned({"alg": "None", "typ": "JWT"}),
    "alg unknown": unsigned({"alg": "RS256", "typ": "JWT"}),
    "not yet": signed(sub="alice", nbf=time.time() + 100),
    "too long": signed(sub="alice", padding="x" * 20_000),
    "cut": signed(sub="alice")[:-1],
}
WRONG["exp is text"] = jwt.PyJWS().encode(b'{"sub":"alice","exp":"tomorrow"}', SECRET, "HS256")
WRONG["sub is a number"] = jwt.PyJWS().encode(b'{"sub":7}', SECRET, "HS256")


@pytest.mark.parametrize("token", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_token_neither_connects_nor_subscribes(token: str) -> None:
    with pytest.raises(Disconnect) as ending:
        verifier.connection(token)
    assert ending.value.code == 3500
    with pytest.raises(Refusal) as refusal:
        verifier.subscription(token, "private", "alice")
    assert refusal.value.code == 103


def test_an_expired_token_is_refused_so_that_the_client_gets_a_new_one() -> None:
    for ask in (
        lambda: verifier.connection(issue(SECRET, "alice", expires_in=-1)),
        lambda: verifier.subscription(issue(SECRET, "alice", expires_in=-1, channel="a"), "a", "alice"),
    ):
        with pytest.raises(Refusal) as refusal:
            ask()
        assert refusal.value.code == 109
    lenient = TokenVerifier(SECRET, leeway=30)
    assert lenient.connection(issue(SECRET, "alice", expires_in=-10)).user == "alice"


def test_a_subscription_token_is_for_one_user_and_one_channel_and_does_not_connect() -> None:
    token = issue(SECRET, "alice", channel="private")
    assert verifier.subscription(token, "private", "alice").channel == "private"
    for channel, user in (("private", "bob"), ("other", "alice")):
        with pytest.raises(Refusal):
            verifier.subscription(token, channel, user)
    with pytest.raises(Disconnect):
        verifier.connection(token)
    with pytest.raises(Refusal):
        verifier.subscription(issue(SECRET, "alice"), "private", "alice")


def test_audience_and_issuer_are_checked_when_they_are_set() -> None:
    strict = TokenVerifier(SECRET, audience="live", issuer="shop")
    assert strict.connection(signed(sub="alice", aud="live", iss="shop")).user == "alice"
    assert strict.connection(signed(sub="alice", aud=["x", "live"], iss="shop")).user == "alice"
    for claims in ({"aud": "live"}, {"iss": "shop"}, {"aud": "x", "iss": "shop"}, {"aud": "live", "iss": "x"}):
        with pytest.raises(Disconnect):
            strict.connection(signed(sub="alice", **claims))


def test_only_the_algorithms_that_are_set_pass() -> None:
    only = TokenVerifier(SECRET, ["HS512"])
    assert only.connection(signed("HS512", sub="alice")).user == "alice"
    with pytest.raises(Disconnect):
        only.connection(signed("HS256", sub="alice"))


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_whatever_a_token_is_only_the_documented_errors_come_out(token: str) -> None:
    for text in (token, f"{token}.{token}.{token}"):
        with pytest.raises(Disconnect):
            verifier.connection(text)
        with pytest.raises(Refusal):
            verifier.subscription(text, "a", "alice")
