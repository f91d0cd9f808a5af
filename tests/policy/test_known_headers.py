"""The short way to check a token: it decides as the long one does, about every token, or leaves it to that."""

import base64
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from freshet.errors import Disconnect, Refusal
from freshet.policy.claims import ClaimChecks
from freshet.policy.keys import EDWARDS, SIGNATURES, VerificationKey, secret_key
from freshet.policy.known_headers import HEADERS, LONGEST
from freshet.policy.revocations import Revocation, Revocations
from freshet.policy.tokens import TokenVerifier, issue
from freshet.testing import ManualClock

SECRET = "a secret for tests, as long as HS512 wants it: sixty-four bytes...."
NEW = "the next secret, which is as long as the one that it is to replace..."
TOKEN = issue(SECRET, "alice", info={"name": "Alice"})
HEADER, PAYLOAD, SIGNATURE = TOKEN.split(".")


def warm(verifier: TokenVerifier, *tokens: str) -> TokenVerifier:
    """The same, which has accepted tokens before."""
    for token in tokens or (TOKEN,):
        verifier.connection(token)
    return verifier


def outcome(verifier: TokenVerifier, token: str) -> Any:
    """What becomes of a token: its claims, or the code with which it is refused."""
    try:
        return verifier.connection(token)
    except (Refusal, Disconnect) as why:
        return type(why), why.code


def known(verifier: TokenVerifier) -> int:
    return len(verifier._known)


def written(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed_parts(header: str, payload: str, secret: str = SECRET, digest: str = "sha256") -> str:
    """A token of these parts as they are, with a right signature."""
    made = f"{header}.{payload}"
    return f"{made}.{written(hmac.digest(secret.encode(), made.encode(), digest))}"


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: Any) -> bytes:
        raise AssertionError("the token was looked at in full")

    monkeypatch.setattr(SIGNATURES, "decode", decode)


BARE, NONE = written(b'{"alg":"HS256"}'), written(b'{"alg":"none"}')
warmed, fresh = warm(TokenVerifier(SECRET)), TokenVerifier(SECRET)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_only_the_first_token_of_an_issuer_is_looked_at_in_full(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = warm(TokenVerifier(SECRET), issue(SECRET, "alice", algorithm=algorithm))
    monkeypatch.setattr(SIGNATURES, "decode", None)
    claims = verifier.connection(issue(SECRET, "bob", info=7, channels=["news"], algorithm=algorithm))
    assert (claims.user, bytes(claims.info), claims.channels) == ("bob", b"7", ["news"])
    subscription = verifier.subscription(issue(SECRET, "bob", channel="a", algorithm=algorithm), "a", "bob")
    assert subscription.channel == "a"


OTHER_FORMS = {
    "it is right": TOKEN,
    "another's payload": f"{HEADER}.{issue(SECRET, 'root').split('.')[1]}.{SIGNATURE}",
    "another's signature": f"{HEADER}.{PAYLOAD}.{issue(SECRET, 'root').split('.')[2]}",
    "no signature": f"{HEADER}.{PAYLOAD}.",
    "no signature and no dot": f"{HEADER}.{PAYLOAD}",
    "a header alone": HEADER,
    "a header and a dot": f"{HEADER}.",
    "two dots": f"{HEADER}..",
    "something behind": TOKEN + "A",
    "a line's end behind": TOKEN + "\n",
    "a space before": " " + TOKEN,
    "padding behind": TOKEN + "=",
    "more padding": TOKEN + "====",
    "a part more": TOKEN + ".",
    "a signed part more": signed_parts(HEADER, f"{PAYLOAD}.{PAYLOAD}"),
    "a payload with padding": signed_parts(HEADER, PAYLOAD + "=" * (-len(PAYLOAD) % 4)),
    "a payload in the other alphabet": signed_parts(HEADER, written(b'{"sub":"???>>>"}').replace("_", "/")),
    "a payload with a line's end": signed_parts(HEADER, PAYLOAD[:8] + "\n" + PAYLOAD[8:]),
    "a payload that is cut": signed_parts(HEADER, PAYLOAD[:-1]),
    "a payload with bits left over": signed_parts(HEADER, written(b'{"sub":"b"}')[:-1] + "R"),
    "no payload": signed_parts(HEADER, ""),
    "letters of another script": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-1]}é",
    "a payload of another script": f"{HEADER}.é.{SIGNATURE}",
    "half of a character": f"{HEADER}.{PAYLOAD}.\ud83d",
    "another header with the signature": f"{BARE}.{PAYLOAD}.{SIGNATURE}",
    "another hash than the header says": signed_parts(HEADER, PAYLOAD, digest="sha512"),
    "another secret": issue(NEW, "alice"),
    "too long": issue(SECRET, "alice", claims={"padding": "x" * 20_000}),
    "of a subscription": issue(SECRET, "alice", channel="a"),
    "no user": issue(SECRET, ""),
}


@pytest.mark.parametrize("token", OTHER_FORMS.values(), ids=OTHER_FORMS.keys())
def test_a_header_that_is_known_changes_nothing_of_what_a_token_is_worth(token: str) -> None:
    assert outcome(warmed, token) == outcome(fresh, token)


@given(st.integers(0, len(TOKEN) - 1), st.integers(0, 8), st.text(max_size=4))
@example(len(TOKEN) - 1, 1, "")
def test_nor_does_it_of_a_token_that_was_changed_anywhere(at: int, removed: int, put: str) -> None:
    token = TOKEN[:at] + put + TOKEN[at + removed :]
    assert outcome(warmed, token) == outcome(TokenVerifier(SECRET), token)
    if token != TOKEN:
        assert outcome(warmed, token) == (Disconnect, 3500)


@pytest.mark.usefixtures("no_library")
def test_a_token_that_is_signed_otherwise_is_not_believed_for_its_header() -> None:
    assert warmed._known.claims(TOKEN) is not None
    for token in OTHER_FORMS.values():
        claims = warmed._known.claims(token)
        assert claims is None or token == signed_parts(*token.split(".")[:2])


# --------------------------------------------------------------------------------------------------- keys that change


def test_a_secret_that_is_replaced_checks_nothing_any_more() -> None:
    """What a configuration knows of headers ends with it: the next one has other secrets, whose tokens begin alike."""
    before = warm(TokenVerifier(SECRET))
    after = warm(TokenVerifier(NEW), issue(NEW, "alice"))
    assert issue(NEW, "alice").split(".")[0] == HEADER
    assert outcome(before, issue(NEW, "alice")) == outcome(after, TOKEN) == (Disconnect, 3500)


def test_while_two_secrets_are_in_force_tokens_of_both_are_right_in_any_order() -> None:
    """Without an id both sign under the same header: it stands for the one that was right last."""
    old, new = issue(SECRET, "alice"), issue(NEW, "bob")
    verifier = TokenVerifier(NEW, keys=[secret_key(SECRET, None)])
    for token, user in ((old, "alice"), (new, "bob"), (new, "bob"), (old, "alice"), (old, "alice"), (new, "bob")):
        assert verifier.connection(token).user == user
    assert known(verifier) == 1
    assert outcome(warm(TokenVerifier(NEW), new), old) == (Disconnect, 3500)


def test_a_header_that_names_a_key_is_checked_with_that_key_alone() -> None:
    keys = [secret_key(SECRET, None, kid="old"), secret_key(NEW, None, kid="new")]
    verifier = TokenVerifier(None, keys=keys)
    warm(verifier, issue(SECRET, "alice", kid="old"), issue(NEW, "alice", kid="new"))
    assert known(verifier) == 2
    for secret, kid in ((NEW, "old"), (SECRET, "new")):
        assert outcome(verifier, issue(secret, "alice", kid=kid)) == (Disconnect, 3500)


def test_public_keys_which_may_be_withdrawn_are_asked_each_time() -> None:
    private = Ed25519PrivateKey.generate()
    published = [VerificationKey("one", frozenset({EDWARDS}), private.public_key())]

    class Remote:
        """An identity provider."""

        def find(self, kid: str, algorithm: str) -> list[VerificationKey]:
            return [key for key in published if key.kid == kid]

    token = jwt.encode({"sub": "alice"}, private, EDWARDS, {"kid": "one"})
    verifier = TokenVerifier(SECRET, keys=[], remote=Remote())
    assert warm(verifier, token, token).connection(token).user == "alice"
    assert known(verifier) == 0
    published.clear()
    assert outcome(verifier, token) == (Disconnect, 3500)


# ------------------------------------------------------------------------------------------- what a token says itself


@pytest.mark.usefixtures("no_library")
@pytest.mark.parametrize(
    "taken_back",
    [
        Revocation("1", "token-7", "", 0.0, 0.0),
        Revocation("1", "", "alice", 1000.0, 0.0),
        Revocation("1", "", "", 1000.0, 0.0),
    ],
    ids=["the token", "all of the user", "all that were issued before"],
)
def test_a_token_that_is_taken_back_is_refused_though_its_header_is_known(taken_back: Revocation) -> None:
    clock = ManualClock(1000.0)
    revocations = Revocations(clock.wall)
    verifier = TokenVerifier(SECRET, checks=ClaimChecks(revocations=revocations, clock=clock))
    token = issue(SECRET, "alice", claims={"jti": "token-7"}, clock=ManualClock(990.0))
    verifier._known.remember(token, secret_key(SECRET, None), "HS256")
    assert verifier.connection(token).user == "alice"
    revocations.add(taken_back)
    assert outcome(verifier, token) == (Disconnect, 3500)


@pytest.mark.usefixtures("no_library")
def test_time_goes_on_for_a_token_whose_header_is_known() -> None:
    clock = ManualClock(1000.0)
    verifier = TokenVerifier(SECRET, checks=ClaimChecks(clock=clock), clock=clock)
    token = issue(SECRET, "alice", expires_in=60, clock=clock)
    verifier._known.remember(token, secret_key(SECRET, None), "HS256")
    assert verifier.connection(token).user == "alice"
    clock.now += 61
    assert outcome(verifier, token) == (Refusal, 109)


# ------------------------------------------------------------------------------------------------- what is remembered


def test_so_many_headers_are_remembered_and_no_more() -> None:
    verifier = TokenVerifier(SECRET)
    for number in range(2 * HEADERS):
        token = jwt.encode({"sub": "alice"}, SECRET, "HS256", {"n": number})
        assert verifier.connection(token).user == "alice"
    assert known(verifier) == HEADERS


def test_a_long_header_is_not_remembered() -> None:
    token = jwt.encode({"sub": "alice"}, SECRET, "HS256", {"note": "x" * LONGEST})
    assert known(warm(TokenVerifier(SECRET), token)) == 0


def test_who_has_no_secret_has_no_header_remembered() -> None:
    verifier = TokenVerifier(SECRET)
    for token in (*OTHER_FORMS.values(), issue(NEW, "alice", kid="mine"), f"{NONE}.{PAYLOAD}."):
        if token.split(".")[0] != HEADER:
            outcome(verifier, token)
    assert known(verifier) == 0


def test_a_header_of_the_wrong_type_is_refused_each_time() -> None:
    verifier = TokenVerifier(SECRET, type="live+jwt")
    right = issue(SECRET, "alice", type="live+jwt")
    assert warm(verifier, right, right).connection(right).user == "alice"
    assert outcome(verifier, TOKEN) == outcome(verifier, TOKEN) == (Disconnect, 3500)


def test_the_claims_are_as_they_were_signed() -> None:
    claims = warmed._known.claims(TOKEN)
    assert claims is not None
    assert json.loads(claims)["info"] == {"name": "Alice"}
