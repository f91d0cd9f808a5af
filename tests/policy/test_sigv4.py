"""Signatures of AWS, version 4: those that boto3 makes are right, and no others."""

from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from freshet.policy.sigv4 import AGAIN, SEEN, SKEW, SignatureRefused, SignatureVerifier
from freshet.runtime.clock import SYSTEM
from freshet.testing import ManualClock

KEYS = {"AKID": "a secret", "OTHER": "another secret"}
URL = "http://host:8000/dev/@connections/Cn1%3D?b=2&a=%20x&a=1"

Signed = tuple[str, bytes, bytes, list[tuple[bytes, bytes]], bytes]


def signed(
    url: str = URL,
    body: bytes = b"data",
    *,
    method: str = "POST",
    key: str = "AKID",
    secret: str = "a secret",
    service: str = "execute-api",
    token: str | None = None,
    headers: dict[str, str] | None = None,
) -> Signed:
    request = AWSRequest(method, url, data=body, headers={"Host": urlsplit(url).netloc, **(headers or {})})
    SigV4Auth(Credentials(key, secret, token), service, "local").add_auth(request)
    parts = urlsplit(url)
    pairs = [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]
    return method, parts.path.encode(), parts.query.encode(), pairs, body


def changed(request: Signed, name: bytes, value: bytes) -> Signed:
    method, path, query, headers, body = request
    return method, path, query, [(each, value if each == name else was) for each, was in headers], body


@pytest.fixture
def verifier() -> SignatureVerifier:
    return SignatureVerifier(KEYS, SYSTEM)


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "http://host/dev/@connections/L0SM9cOFvHcCIhw%3D",
        "http://host/dev/%40connections/a%2Fb%20c%2Bd%C3%A9",
        "http://127.0.0.1:8000/@connections/x~-._",
        "http://[::1]:8000/dev/@connections/x?",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_what_boto3_signs_is_right(verifier: SignatureVerifier, url: str, method: str) -> None:
    assert verifier.verify(*signed(url, b"data" if method == "POST" else b"", method=method)) == "AKID"


def test_a_session_token_and_headers_with_white_space_are_signed_too(verifier: SignatureVerifier) -> None:
    assert verifier.verify(*signed(token="a token", headers={"X-Own": "  two   words "})) == "AKID"


def test_each_of_several_keys_is_right(verifier: SignatureVerifier) -> None:
    assert verifier.verify(*signed(key="OTHER", secret="another secret")) == "OTHER"


def test_a_signature_is_good_for_one_request(verifier: SignatureVerifier) -> None:
    request = signed()
    verifier.verify(*request)
    with pytest.raises(SignatureRefused, match="already"):
        verifier.verify(*request)


def test_two_calls_that_say_the_same_at_the_same_time_are_two(verifier: SignatureVerifier) -> None:
    """As boto3 makes them: it does not sign the id of a call."""
    request = signed()
    for call in (b"1", b"2"):
        verifier.verify(*with_call(request, call))
        with pytest.raises(SignatureRefused, match="already"):
            verifier.verify(*with_call(request, call))


def test_a_signature_is_not_good_for_another_call_later() -> None:
    clock = ManualClock(SYSTEM.wall())
    verifier, request = SignatureVerifier(KEYS, clock), signed()
    verifier.verify(*with_call(request, b"1"))
    clock.now += AGAIN + 2
    with pytest.raises(SignatureRefused, match="already"):
        verifier.verify(*with_call(request, b"2"))


def with_call(request: Signed, call: bytes) -> Signed:
    method, path, query, headers, body = request
    return method, path, query, [*headers, (b"amz-sdk-invocation-id", call)], body


@pytest.mark.parametrize("part", ["method", "path", "query", "body", "host", "x-amz-date"])
def test_nothing_that_is_signed_can_be_changed(verifier: SignatureVerifier, part: str) -> None:
    request = signed()
    method, path, query, headers, body = request
    forged = {
        "method": ("DELETE", path, query, headers, body),
        "path": (method, path.replace(b"Cn1", b"Cn2"), query, headers, body),
        "query": (method, path, b"a=2", headers, body),
        "body": (method, path, query, headers, b"other"),
        "host": changed(request, b"host", b"other"),
        "x-amz-date": changed(request, b"x-amz-date", dict(headers)[b"x-amz-date"][:8] + b"T000000Z"),
    }
    with pytest.raises(SignatureRefused):
        verifier.verify(*forged[part])
    verifier.verify(*request)  # what was refused is not remembered


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"secret": "wrong"}, "does not match"),
        ({"key": "UNKNOWN"}, "does not match"),
        ({"key": "UNKNOWN", "secret": ""}, "does not match"),
        ({"service": "s3"}, "service"),
    ],
)
def test_another_key_or_service_is_refused(verifier: SignatureVerifier, options: dict[str, str], why: str) -> None:
    with pytest.raises(SignatureRefused, match=why):
        verifier.verify(*signed(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("away", [SKEW + 5, -SKEW - 5])
def test_a_signature_of_another_time_is_refused(away: float) -> None:
    verifier = SignatureVerifier(KEYS, ManualClock(SYSTEM.wall() + away))
    with pytest.raises(SignatureRefused, match="expired"):
        verifier.verify(*signed())


def test_the_hash_that_a_client_says_has_to_be_the_body_s(verifier: SignatureVerifier) -> None:
    verifier.verify(*signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}))
    with pytest.raises(SignatureRefused, match="hash of the body"):
        verifier.verify(*signed(headers={"X-Amz-Content-SHA256": "0" * 64}))


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer x",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=AKID",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=, Signature=x",
        "AWS4-HMAC-SHA256 Credential=AKID/20260101/local/execute-api/aws4_request, SignedHeaders=x;a, Signature=x",
        "AWS4-HMAC-SHA256 Credential=AKID/20260101/local/execute-api/aws4_request, SignedHeaders=Host, Signature=x",
        "AWS4-HMAC-SHA256 Credential=AKID/20260101/local/execute-api/aws4_request, SignedHeaders=host, Signature=\xff",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host",
        "AWS4-HMAC-SHA256 " + "Credential=" * 1000,
    ],
)
def test_any_other_authorization_is_refused(verifier: SignatureVerifier, authorization: str) -> None:
    request = changed(signed(), b"authorization", authorization.encode("latin-1"))
    with pytest.raises(SignatureRefused):
        verifier.verify(*request)


def test_a_query_of_thousands_of_fields_is_refused_before_it_is_decoded(verifier: SignatureVerifier) -> None:
    with pytest.raises(SignatureRefused, match="fields"):
        verifier.verify(*signed(f"http://host/dev/@connections/x?{'a&' * 1000}"))


def test_the_host_has_to_be_signed(verifier: SignatureVerifier) -> None:
    request = signed()
    authorization = dict(request[3])[b"authorization"].replace(b"SignedHeaders=host;", b"SignedHeaders=")
    with pytest.raises(SignatureRefused, match="Host"):
        verifier.verify(*changed(request, b"authorization", authorization))


def test_signatures_are_forgotten_when_their_time_is_over_and_never_too_many_are_kept() -> None:
    clock = ManualClock(SYSTEM.wall())
    verifier = SignatureVerifier(KEYS, clock)
    for number in range(SEEN + 10):
        verifier._once(str(number), "", 0)
    assert len(verifier._seen) <= SEEN + 2
    clock.now += 3 * SKEW
    verifier._once("another", "", 0)
    assert len(verifier._seen) == 2
