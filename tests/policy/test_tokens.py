"""Clients' tokens: what passes, and what does not, however it is made."""

import base64
import hmac
import json
import re
import time
from contextlib import suppress
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.config import TokenKey, Tokens
from freshet.errors import ConfigError, Disconnect, Refusal
from freshet.policy.claims import ClaimChecks, TokenRefusals
from freshet.policy.keys import VerificationKey
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
    "not yet": signed(sub="alice", nbf=time.time() + 86_400),
    "too long": signed(sub="alice", padding="x" * 20_000),
    "cut": signed(sub="alice")[:-1],
}
WRONG["exp is text"] = jwt.PyJWS().encode(b'{"sub":"alice","exp":"tomorrow"}', SECRET, "HS256")
WRONG["sub is a number"] = jwt.PyJWS().encode(b'{"sub":7}', SECRET, "HS256")
for _name, _claims in {
    "nbf is text": b'{"sub":"alice","nbf":"tomorrow"}',
    "channels is text": b'{"sub":"alice","channels":"a"}',
    "channels hold numbers": b'{"sub":"alice","channels":[1]}',
    "channel is a list": b'{"sub":"alice","channel":["private"]}',
    "sub is null": b'{"sub":null}',
    "iss is a number": b'{"sub":"alice","iss":7}',
    "aud is an object": b'{"sub":"alice","aud":{}}',
    "claims are a list": b'["alice"]',
    "claims are a text": b'"alice"',
    "claims are nothing": b"",
    "claims are no JSON": b"{",
    "claims are no UTF-8": b'{"sub":"\xff"}',
    "claims are deep": b'{"sub":"alice","info":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "exp is beyond every number": b'{"sub":"alice","exp":1e400}',
}.items():
    WRONG[_name] = jwt.PyJWS().encode(_claims, SECRET, "HS256")


WHY = {
    "no token": "no JWT",
    "another key": "signature",
    "alg none": "`alg`",
    "not yet": "`nbf`",
    "too long": "limits.token_size",
    "exp is text": "$.exp",
    "sub is a number": "Expected `str`, got `int` - at `$.sub`",
    "channels hold numbers": "$.channels",
    "claims are no JSON": "not JSON",
}


@pytest.mark.parametrize("name", WHY)
def test_the_log_says_which_check_a_token_failed_and_nothing_of_the_token(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    checks = TokenVerifier(SECRET)
    for _ in range(100):
        with pytest.raises(Disconnect):
            checks.connection(WRONG[name])
    with pytest.raises(Refusal):
        checks.subscription(WRONG[name], "private", "alice")
    of_connection, of_subscription = (record.getMessage() for record in caplog.records)  # at a bounded rate
    for line, kind in ((of_connection, "connection"), (of_subscription, "subscription")):
        assert f"a {kind} token was refused" in line
        assert WHY[name] in line
        assert not any(part in line for part in WRONG[name].split(".") if len(part) > 3)


def test_the_log_says_whose_a_token_is_not(caplog: pytest.LogCaptureFixture) -> None:
    token = issue(SECRET, "alice", channel="private")
    for channel, user in (("private", "bob"), ("other", "alice")):
        with pytest.raises(Refusal):
            TokenVerifier(SECRET).subscription(token, channel, user)
    with pytest.raises(Disconnect):
        TokenVerifier(SECRET).connection(token)
    with pytest.raises(Disconnect):
        TokenVerifier(SECRET).connection(issue(SECRET, ""))
    assert [re.findall("`([a-z]+)`", record.getMessage()) for record in caplog.records] == [
        ["sub"],
        ["channel"],
        ["channel"],
        ["sub"],
    ]


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
    lenient = TokenVerifier(SECRET, checks=ClaimChecks(leeway=30))
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
    strict = TokenVerifier(SECRET, checks=ClaimChecks(audience="live", issuer="shop"))
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


@given(st.data())
def test_a_token_with_one_character_changed_is_wrong(data: st.DataObject) -> None:
    token = issue(SECRET, "alice", channel="private", claims={"iat": 1})
    # The last character holds bits that are no part of the signature.
    at = data.draw(st.integers(0, len(token) - 2))
    changed = token[:at] + data.draw(st.sampled_from("AZaz09-_. é\n=").filter(lambda text: text != token[at]))
    changed += token[at + 1 :]
    with pytest.raises(Refusal) as refusal:
        verifier.subscription(changed, "private", "alice")
    assert refusal.value.code == 103


@given(
    st.dictionaries(
        st.sampled_from(["sub", "exp", "nbf", "info", "channels", "channel", "aud", "iss", "other"]),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=5,
        ),
    )
)
def test_whatever_a_signed_token_claims_it_passes_or_is_refused(claims: dict[str, Any]) -> None:
    token = jwt.PyJWS().encode(json.dumps(claims).encode(), SECRET, "HS256")
    with suppress(Refusal, Disconnect):
        found = verifier.connection(token)
        assert found.user == claims["sub"] != ""
        assert "channel" not in claims or claims["channel"] is None
        assert found.expires_at is None or found.expires_at > time.time()
    with suppress(Refusal):
        verifier.subscription(token, "private", "alice")
        assert (claims["channel"], claims["sub"]) == ("private", "alice")


def test_the_difference_of_clocks_is_forgiven_in_both_directions() -> None:
    lenient = TokenVerifier(SECRET, checks=ClaimChecks(leeway=30))
    now = time.time()
    assert lenient.connection(signed(sub="alice", nbf=now + 20)).user == "alice"
    with pytest.raises(Disconnect):
        lenient.connection(signed(sub="alice", nbf=now + 60))
    with pytest.raises(Refusal):
        lenient.connection(signed(sub="alice", exp=now - 60))


def test_an_expired_token_of_anyone_else_is_wrong_rather_than_expired() -> None:
    other = issue(SECRET[::-1], "alice", expires_in=-60)
    with pytest.raises(Disconnect) as ending:
        verifier.connection(other)
    assert ending.value.code == 3500


def test_a_public_key_does_not_become_a_secret() -> None:
    """The classic confusion: a header that names an asymmetric algorithm for a key that is shared."""
    with pytest.raises(Disconnect):
        verifier.connection(unsigned({"alg": "ES256", "typ": "JWT", "jwk": "{}", "kid": "../../dev/null"}))


def test_a_verifier_without_a_secret_cannot_be_made() -> None:
    with pytest.raises(ConfigError, match=r"tokens\.secret"):
        TokenVerifier("")


def test_a_verifier_shows_no_secret() -> None:
    assert SECRET not in repr(verifier)
    assert SECRET not in str(verifier)


@pytest.mark.parametrize("claims", [{}, {"sub": ""}])
def test_a_token_that_names_no_user_connects_only_where_sessions_may_be_anonymous(claims: dict[str, Any]) -> None:
    with pytest.raises(Disconnect) as ending:
        verifier.connection(signed(**claims))
    assert ending.value.code == 3500
    assert TokenVerifier(SECRET, checks=ClaimChecks(anonymous=True)).connection(signed(**claims)).user == ""
    opened = Tokens(anonymous=True)
    assert TokenVerifier.from_config(opened, SECRET).connection(signed(**claims)).user == ""


@given(
    st.dictionaries(
        st.sampled_from(["alg", "typ", "crit", "b64", "kid", "jku", "jwk", "x5u", "enc"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.sampled_from(["HS256", "HS512", "none", "RS256", "b64"]),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=4,
        ),
    ),
    st.booleans(),
)
def test_whatever_a_header_holds_only_a_signature_with_the_secret_passes(header: dict[str, Any], right: bool) -> None:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, {"sub": "alice"})]
    body = b".".join(parts)
    digest = {"HS512": "sha512"}.get(str(header.get("alg")), "sha256")
    signature = hmac.digest(SECRET.encode() if right else b"another", body, digest)
    token = (body + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
    with suppress(Disconnect):
        assert verifier.connection(token).user == "alice"
        assert right
        assert header["alg"] in ("HS256", "HS512")


PEM = (
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----"
)


@pytest.mark.parametrize("secret", [PEM, '{"kty": "oct", "k": "hunter2"}', "hunter2\udcff"])
def test_a_secret_with_which_no_token_could_pass_is_named_at_once_and_not_shown(secret: str) -> None:
    with pytest.raises(ConfigError) as mistake:
        TokenVerifier(secret)
    assert mistake.value.path == "tokens.secret"
    assert secret not in str(mistake.value)
    assert "hunter2" not in str(mistake.value)


@pytest.mark.parametrize("algorithms", [[], ["none"], ["RS256"], ["HS256", "ES256K"]])
def test_only_algorithms_that_a_secret_is_good_for_can_be_set(algorithms: list[str]) -> None:
    with pytest.raises(ConfigError, match="HS256, HS384, HS512") as mistake:
        TokenVerifier(SECRET, algorithms)
    assert mistake.value.path == "tokens.algorithms"


@pytest.mark.parametrize(
    ("size", "algorithms", "least"),
    [(31, None, 32), (31, ["HS256"], 32), (47, ["HS384"], 48), (63, ["HS512"], 64), (47, ["HS384", "HS512"], 48)],
)
def test_a_secret_shorter_than_rfc_7518_asks_is_refused(size: int, algorithms: list[str] | None, least: int) -> None:
    with pytest.raises(ConfigError, match=f"RFC 7518 asks for {least} random bytes or more, this one has {size}"):
        TokenVerifier("k" * size, algorithms)
    TokenVerifier("k" * least, algorithms)


def test_a_secret_checks_no_longer_hashes_than_it_is_long() -> None:
    short = TokenVerifier("k" * 32)
    assert short.connection(signed("HS256", "k" * 32, sub="alice")).user == "alice"
    with pytest.raises(Disconnect):
        short.connection(issue("k" * 32, "alice", algorithm="HS512"))


def test_a_short_secret_is_only_warned_of_on_ones_own_machine(caplog: pytest.LogCaptureFixture) -> None:
    short = TokenVerifier("hunter2", weak=True)
    for _ in range(3):
        assert short.connection(issue("hunter2", "alice")).user == "alice"
    assert [record.message for record in caplog.records if "RFC 7518" in record.message] == [caplog.records[0].message]
    assert "hunter2" not in caplog.text


def test_other_users_of_the_library_keep_its_warnings() -> None:
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        jwt.encode({"sub": "alice"}, "hunter2", "HS256")


def test_a_claim_may_hold_half_of_a_character_where_it_is_not_a_name() -> None:
    """`json.dumps` of the back end writes it as an escape, which passes through as it is."""
    payload = b'{"sub":"alice",\n"info":{"name":\r\n"\\uD83d"},"other":"\\ude00"}'
    claims = verifier.connection(jwt.PyJWS().encode(payload, SECRET, "HS256"))
    assert bytes(claims.info) == b'{"name":  "\\uD83d"}'
    assert claims.claims == payload
    for name in ("sub", "channel"):
        with pytest.raises(Disconnect):
            verifier.connection(signed(**{"sub": "alice", name: "\ud83d"}))
    made = verifier.connection(issue(SECRET, "alice", info=["\ud83d"], claims={"other": "\ude00"}))
    assert bytes(made.info) == b'["\\ud83d"]'


@pytest.mark.parametrize("info", ["null", " null "])
def test_no_info_is_none(info: str) -> None:
    token = jwt.PyJWS().encode(f'{{"sub":"alice","info":{info}}}'.encode(), SECRET, "HS256")
    assert not bytes(verifier.connection(token).info)


@pytest.mark.parametrize("around", ["{}\n", " {}", "{}\r\n"])
def test_white_space_around_a_secret_counts_and_is_told(around: str, caplog: pytest.LogCaptureFixture) -> None:
    secret = around.format(SECRET)
    assert TokenVerifier(secret).connection(issue(secret, "alice")).user == "alice"
    with pytest.raises(Disconnect):
        TokenVerifier(secret).connection(issue(SECRET, "alice"))
    assert "white space" in caplog.text
    assert SECRET not in caplog.text


# ------------------------------------------------------------------------------------------------------- what is asked


def refusal_of(verifier: TokenVerifier, token: str) -> Exception:
    with pytest.raises((Disconnect, Refusal)) as ending:
        verifier.connection(token)
    return ending.value


def checking(**checks: Any) -> TokenVerifier:
    return TokenVerifier(SECRET, checks=ClaimChecks(**checks), refusals=TokenRefusals(explain=True))


NOW = time.time()


@pytest.mark.parametrize(
    ("checks", "claims", "check"),
    [
        ({"require_expiry": True}, {}, "exp"),
        ({"max_lifetime": 60}, {}, "exp"),
        ({"max_lifetime": 60}, {"exp": NOW + 3600}, "exp"),
        ({"audience": "live"}, {"aud": "shop"}, "aud"),
        ({"issuer": "https://id.example"}, {"iss": "https://evil.example"}, "iss"),
        ({}, {"nbf": NOW + 3600}, "nbf"),
        ({}, {"sub": ""}, "sub"),
        ({}, {"channel": "news"}, "channel"),
        ({}, {"caps": [{"channels": ["{"], "allow": ["fly"]}]}, "claims"),
        ({}, {"caps": [{"channels": ["{1}"], "allow": ["publish"]}]}, "caps"),
        ({}, {"exp": "tomorrow"}, "claims"),
    ],
)
def test_a_refusal_says_which_check_failed_in_the_log_and_on_ones_own_machine_to_the_client(
    caplog: pytest.LogCaptureFixture, checks: dict[str, Any], claims: dict[str, Any], check: str
) -> None:
    token = signed(**{"sub": "alice", **claims})
    refused = refusal_of(checking(**checks), token)
    assert isinstance(refused, Disconnect)
    assert refused.code == 3500
    assert refused.reason.startswith("invalid token: ")
    assert len(refused.reason.encode()) <= 123
    [line] = caplog.messages
    assert f"refused by its `{check}`: " in line
    assert token not in line
    assert token.split(".")[2] not in line


def test_what_a_token_may_last_at_most_is_let_in() -> None:
    assert checking(max_lifetime=60).connection(signed(sub="alice", exp=int(time.time()) + 50)).user == "alice"
    assert checking(require_expiry=True).connection(signed(sub="alice", exp=NOW + 5000)).user == "alice"


def test_the_log_has_a_line_a_kind_however_many_tokens_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    strict = TokenVerifier(SECRET)
    for _ in range(1000):
        assert refusal_of(strict, "a.b.c").reason == "invalid token"  # type: ignore[attr-defined]
        refusal_of(strict, WRONG["another key"])
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("kid", ["\x1b[31mred\n", "\u202ereversed", "k" * 500])
def test_what_a_client_sent_is_shown_in_the_log_harmless_and_short(caplog: pytest.LogCaptureFixture, kid: str) -> None:
    key = VerificationKey("2026", frozenset({"HS256"}), SECRET.encode())
    refusal_of(TokenVerifier(None, keys=[key]), jwt.encode({"sub": "a"}, SECRET, "HS256", {"kid": kid}))
    [line] = caplog.messages
    assert line.isprintable()
    assert len(line) < 250


@pytest.mark.parametrize(
    ("typ", "passes"),
    [
        ("at+jwt", True),
        ("AT+JWT", True),
        ("application/at+jwt", True),
        ("JWT", False),
        ("logout+jwt", False),
        ("", False),
    ],
)
def test_a_type_that_is_asked_for_has_to_be_there(typ: str, passes: bool) -> None:
    """RFC 9068, 4: the resource server MUST verify that the "typ" header value is "at+jwt" or "application/at+jwt"."""
    typed = TokenVerifier(SECRET, type="at+jwt")
    token = jwt.encode({"sub": "alice"}, SECRET, "HS256", {"typ": typ})
    if passes:
        assert typed.connection(token).user == "alice"  # type: ignore[union-attr]
    else:
        assert isinstance(refusal_of(typed, token), Disconnect)
    assert typed.connection(typed.issue("alice")).user == "alice"  # type: ignore[union-attr]


def test_several_secrets_stand_side_by_side_until_the_old_one_is_taken_out() -> None:
    config = Tokens(keys=[TokenKey(kid="new", secret="n" * 32), TokenKey(kid="old", secret_env="OLD")])
    both = TokenVerifier.from_config(config, None, environment={"OLD": "o" * 32})
    for kid, secret in {"new": "n" * 32, "old": "o" * 32}.items():
        assert both.connection(jwt.encode({"sub": kid}, secret, "HS256", {"kid": kid})).user == kid  # type: ignore[union-attr]
        assert both.connection(jwt.encode({"sub": kid}, secret, "HS256")).user == kid  # type: ignore[union-attr]
    crossed = jwt.encode({"sub": "alice"}, "n" * 32, "HS256", {"kid": "old"})
    assert isinstance(refusal_of(both, crossed), Disconnect)
    own = both.issue("alice")
    assert jwt.get_unverified_header(own)["kid"] == "new"
    assert both.connection(own).user == "alice"  # type: ignore[union-attr]
    only = TokenVerifier.from_config(Tokens(keys=[TokenKey(kid="new", secret="n" * 32)]), None)
    assert isinstance(refusal_of(only, jwt.encode({"sub": "old"}, "o" * 32, "HS256", {"kid": "old"})), Disconnect)


def test_more_keys_than_are_tried_for_every_wrong_token_want_a_name() -> None:
    keys = [VerificationKey(str(number), frozenset({"HS256"}), b"%d" % number * 32) for number in range(9)]
    many = TokenVerifier(None, keys=keys)
    assert "names no key" in caught(many, jwt.encode({"sub": "alice"}, "8" * 32, "HS256"))
    named = jwt.encode({"sub": "alice"}, "8" * 32, "HS256", {"kid": "8"})
    assert many.connection(named).user == "alice"  # type: ignore[union-attr]


def caught(verifier: TokenVerifier, token: str) -> str:
    explained = verifier
    explained._refusals = TokenRefusals(explain=True)
    return str(refusal_of(explained, token))
