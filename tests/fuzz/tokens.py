"""Tokens: none is taken that was not signed, whatever is made of one that was; and what is signed may say anything."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Hashable
from random import Random
from typing import Any

import jwt

from freshet.errors import Disconnect, Refusal
from freshet.policy.claims import ClaimChecks
from freshet.policy.tokens import TokenVerifier
from freshet.testing import ManualClock
from tests.fuzz.grammar import json_text, text, value
from tests.fuzz.harness import Target

SECRET = "a secret of at least thirty-two bytes, for HS256"
NOW = 1_800_000_000
CLOCK = ManualClock(NOW)
VERIFIER = TokenVerifier(SECRET, ["HS256"], checks=ClaimChecks(audience="us", clock=CLOCK), clock=CLOCK)
HEADERS: list[dict[str, Any]] = [
    {"alg": "HS256", "typ": "JWT"},
    {"alg": "none"},
    {"alg": "HS512"},
    {"alg": "RS256"},
    {"alg": "HS256", "kid": "../../dev/null"},
    {"alg": "HS256", "jku": "https://evil.example/keys"},
    {"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}},
    {"alg": "HS256", "x5u": "https://evil.example/cert"},
    {"alg": "HS256", "crit": ["b64"], "b64": False},
    {"alg": ["HS256"]},
    {},
]
_signer = jwt.PyJWS()


def part(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def claims_text(chance: Random) -> bytes:
    claims: dict[str, Any] = {"sub": text(chance) if chance.random() < 0.5 else "alice", "aud": "us", "exp": NOW + 60}
    for name in chance.choices(
        ["sub", "exp", "nbf", "iat", "aud", "iss", "info", "channels", "channel", "x"], k=chance.randrange(4)
    ):
        claims[name] = chance.choice((value(chance), NOW - 60, NOW + 60, ["us"], "a", ["a", "b"], 10**400, 1e308))
    return json_text(chance, claims)


def _token(chance: Random) -> bytes:
    """Any header and claims, with the signature that they have, that another key makes, or none."""
    signed = part(json_text(chance, chance.choice(HEADERS))) + b"." + part(claims_text(chance))
    key = SECRET if chance.random() < 0.8 else "another secret of at least thirty-two bytes"
    algorithm = _signer.get_algorithm_by_name("HS256")
    signature = part(algorithm.sign(signed, algorithm.prepare_key(key)))
    return signed + b"." + chance.choice((signature, signature, signature, b"", signature[:-1], signature + b"="))


def _is_signed(token: str) -> bool:
    signed, _, signature = token.rpartition(".")
    algorithm = _signer.get_algorithm_by_name("HS256")
    expected = algorithm.sign(signed.encode(), algorithm.prepare_key(SECRET))
    return urlsafe_b64decode(signature + "===") == expected


def run_token(data: bytes) -> Hashable:
    token = data.decode("latin-1")
    outcomes: list[Hashable] = []
    for check in (VERIFIER.connection, lambda it: VERIFIER.subscription(it, "a", "alice")):
        try:
            claims = check(token)
        except (Disconnect, Refusal) as why:
            outcomes.append((why.code, str(why)[:40]))
            continue
        assert _is_signed(token), "taken without a signature"
        assert claims.expires_at is None or claims.expires_at > NOW
        assert b"\n" not in bytes(claims.info)
        claims.user.encode()
        outcomes.append("taken")
    return tuple(outcomes)


def resigned(data: bytes) -> Hashable:
    """Of an issuer whose claims are broken, not its signature: the input is the header, a line, and the claims."""
    head, _, claims = data.partition(b"\n")
    signed = part(head) + b"." + part(claims)
    algorithm = _signer.get_algorithm_by_name("HS256")
    return run_token(signed + b"." + part(algorithm.sign(signed, algorithm.prepare_key(SECRET))))


def _said(chance: Random) -> bytes:
    head = json_text(chance, chance.choice(HEADERS)) if chance.random() < 0.5 else b'{"alg":"HS256"}'
    return head.replace(b"\n", b" ") + b"\n" + claims_text(chance)


CLAIMS = [
    b'"sub"',
    b'"exp"',
    b'"nbf"',
    b'"aud"',
    b'"us"',
    b'"info"',
    b'"channels"',
    b'"channel"',
    b'"alg":"none"',
    b"null",
]
TARGETS = [
    Target("token", run_token, _token, [b".", b"=", b"-", b"_", b"eyJhbGciOiJub25lIn0", b"+", b"/", b" "], each=2e-6),
    Target("claims", resigned, _said, CLAIMS, each=2e-6),
]
