"""Requests signed as AWS Signature Version 4 says, verified.

A signature is good for five minutes, and a request for once: who repeats one that he has seen is refused. boto3 signs
the second and the content, so that two calls that say the same within a second have one signature; those differ in the
id of the call, which it does not sign. So a signature may come again with another such id, for a few seconds.
Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hmac
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

from freshet.runtime.clock import Clock

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "execute-api"
SKEW = 300.0  # seconds that a signature's time may differ
AGAIN = 5.0  # seconds since it was made in which a signature may come with another call
SEEN = 100_000  # signatures and calls that are remembered
FIELDS = 100  # of a query, which calls have none of
CALL = ("amz-sdk-invocation-id", "amz-sdk-request")
UNSIGNED = "UNSIGNED-PAYLOAD"

Headers = Sequence[tuple[bytes, bytes]]


class SignatureRefused(Exception):
    """The message says why."""


class _Credential(NamedTuple):
    key: str
    date: str
    region: str
    service: str
    end: str


class _Authorization(NamedTuple):
    credential: _Credential
    signed: list[str]
    signature: str


class SignatureVerifier:
    """keys: secrets by their access keys' ids."""

    def __init__(self, keys: Mapping[str, str], clock: Clock) -> None:
        self._keys = dict(keys)
        self._clock = clock
        self._seen: OrderedDict[str, float] = OrderedDict()

    def verify(self, method: str, raw_path: bytes, query: bytes, headers: Headers, body: bytes) -> str:
        """The id of the key with which the request is signed. Raises `SignatureRefused`.

        raw_path: as it was received, percent-encoded.
        """
        values: dict[str, list[str]] = {}
        for name, value in headers:
            values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        claimed = _authorization(",".join(values.get("authorization", [])))
        credential, time = claimed.credential, self._time(values, claimed.credential)
        if "host" not in claimed.signed:
            raise SignatureRefused("'Host' must be a 'SignedHeader' in the AWS Authorization.")
        missing = [name for name in claimed.signed if name not in values]
        if missing:
            raise SignatureRefused(f"the signed header {missing[0]!r} is not there")
        hashed = _payload_hash(values, body)
        lines = [f"{name}:{','.join(' '.join(each.split()) for each in values[name])}\n" for name in claimed.signed]
        canonical = "\n".join(
            (
                method,
                quote(raw_path.decode("latin-1"), safe="/-_.~"),
                _canonical_query(query),
                "".join(lines),
                ";".join(claimed.signed),
                hashed,
            )
        )
        scope = "/".join(credential[1:])
        text = "\n".join((ALGORITHM, time, scope, sha256(canonical.encode()).hexdigest()))
        # A key that is not known takes as long as one that is.
        secret = self._keys.get(credential.key, "")
        right = hmac.digest(_signing_key(secret, credential), text.encode(), sha256).hex()
        if not hmac.compare_digest(right, claimed.signature) or not secret:
            raise SignatureRefused("The request signature we calculated does not match the signature you provided.")
        call = "" if CALL[0] in claimed.signed else "|".join(values.get(name, [""])[0] for name in CALL)
        self._once(claimed.signature, call, self._age(time))
        return credential.key

    def _time(self, values: Mapping[str, list[str]], credential: _Credential) -> str:
        text = values.get("x-amz-date", [""])[0]
        try:
            age = self._age(text)
        except ValueError:
            raise SignatureRefused("expected X-Amz-Date") from None
        if credential.date != text[:8]:
            raise SignatureRefused("Date in Credential scope does not match X-Amz-Date")
        if credential.service != SERVICE or credential.end != "aws4_request":
            raise SignatureRefused(f"Credential should be scoped to the service {SERVICE!r}")
        if abs(age) > SKEW:
            raise SignatureRefused("Signature expired, or not yet current")
        return text

    def _age(self, time: str) -> float:
        """Seconds since a request was signed. Raises ValueError."""
        return self._clock.wall() - datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()

    def _once(self, signature: str, call: str, age: float) -> None:
        now = self._clock.monotonic()
        while self._seen and (len(self._seen) > SEEN or next(iter(self._seen.values())) < now):
            self._seen.popitem(last=False)
        one = f"{signature} {call}"
        if one in self._seen or (signature in self._seen and (not call or age > AGAIN)):
            raise SignatureRefused("this request has been made already")
        for key in (signature, one):
            self._seen.setdefault(key, now + 2 * SKEW)


def verifier_of(keys: Mapping[str, str], clock: Clock) -> SignatureVerifier | None:
    """None: there are no keys."""
    return SignatureVerifier(keys, clock) if keys else None


def _authorization(text: str) -> _Authorization:
    algorithm, _, rest = text.strip().partition(" ")
    if algorithm != ALGORITHM:
        raise SignatureRefused("Missing Authentication Token")
    parts = dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)
    credential = parts.get("Credential", "").split("/")
    signature = parts.get("Signature", "")
    if len(credential) != 5 or not parts.get("SignedHeaders") or not signature or not signature.isascii():
        raise SignatureRefused("Authorization: expected Credential, SignedHeaders and Signature")
    signed = parts["SignedHeaders"].split(";")
    if signed != sorted(set(signed)) or any(name != name.lower() for name in signed):
        raise SignatureRefused("SignedHeaders: expected names in lower case, sorted")
    return _Authorization(_Credential(*credential), signed, signature)


def _payload_hash(values: Mapping[str, list[str]], body: bytes) -> str:
    """boto3 signs the hash of the body without saying it; others say it."""
    hashed = sha256(body).hexdigest()
    said = values.get("x-amz-content-sha256", [hashed])[0]
    if said not in (hashed, UNSIGNED):
        raise SignatureRefused("x-amz-content-sha256 is not the hash of the body")
    return said


def _canonical_query(query: bytes) -> str:
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=FIELDS)
    except ValueError:
        raise SignatureRefused(f"a query has at most {FIELDS} fields") from None
    return "&".join(sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs))


def _signing_key(secret: str, credential: _Credential) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in credential[1:]:
        key = hmac.digest(key, part.encode(), sha256)
    return key
