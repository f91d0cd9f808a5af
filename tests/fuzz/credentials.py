"""What else lets somebody in: key sets that an issuer publishes, tickets, and what the application says of tokens."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Hashable
from random import Random
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from freshet.engines.memory import MemoryEngine
from freshet.errors import Disconnect, Refusal
from freshet.policy.claims import ClaimChecks, ConnectionClaims, TokenRefusals
from freshet.policy.jwks import MOST, PublishedKeys
from freshet.policy.keys import PUBLIC, SIGNATURES, VerificationKey, fitting
from freshet.policy.session_tokens import SessionTokens
from freshet.policy.tickets import ALGORITHM, PREFIX, Tickets
from tests.fuzz.brokers import OneLoop
from tests.fuzz.grammar import json_text, text, value
from tests.fuzz.harness import Target
from tests.fuzz.tokens import CLAIMS, CLOCK, NOW, claims_text

SECRET = b"a secret of at least thirty-two bytes, for tickets"
CHECKS, REFUSALS = ClaimChecks(audience="us", clock=CLOCK), TokenRefusals(explain=True)

# ------------------------------------------------------------------------------------------------------------ key sets

_set = PublishedKeys("https://issuer.example/keys", 3600, clock=CLOCK)
_KEYS: list[dict[str, Any]] = [
    RSAAlgorithm.to_jwk(rsa.RSAPublicNumbers(65537, 2**2047 + 2**1024 + 1).public_key(), as_dict=True),
    ECAlgorithm.to_jwk(ec.derive_private_key(7, ec.SECP256R1()).public_key(), as_dict=True),
    ECAlgorithm.to_jwk(ec.derive_private_key(7, ec.SECP521R1()).public_key(), as_dict=True),
    OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key(), as_dict=True),
    {"kty": "oct", "k": urlsafe_b64encode(b"k" * 48).decode()},
]
_FIELDS = ["kty", "n", "e", "crv", "x", "y", "d", "k", "use", "alg", "kid", "key_ops", "x5u", "jku"]
_VALUES = [
    "RSA",
    "EC",
    "OKP",
    "oct",
    "P-256",
    "Ed25519",
    "AQAB",
    "AQ",
    "sig",
    "enc",
    "RS256",
    "HS256",
    "none",
    "A" * 700,
]


def run_key_set(data: bytes) -> Hashable:
    """Whatever an issuer publishes, its keys are public ones, each for algorithms that fit it."""
    try:
        keys = _set._parse(data)
    except ValueError as why:
        return str(why)[:30]
    assert 0 < len(keys) <= MOST
    for key in keys:
        assert not isinstance(key.material, (bytes, str)), "a secret that is published"
        assert not hasattr(key.material, "private_bytes")
        assert key.algorithms <= set(PUBLIC)
        for algorithm in key.algorithms:
            assert key in fitting(keys, key.kid, algorithm)
    return tuple(sorted((type(key.material).__name__, len(key.kid) > 0, len(key.algorithms)) for key in keys))


def _entry(chance: Random) -> Any:
    entry: dict[str, Any] = dict(chance.choice(_KEYS))
    for name in chance.choices(_FIELDS, k=chance.randrange(4)):
        entry[name] = chance.choice((*_VALUES, text(chance), value(chance), ["verify"], ["sign"]))
    return entry if chance.random() < 0.95 else value(chance)


def _key_set(chance: Random) -> bytes:
    return json_text(chance, {"keys": [_entry(chance) for _ in range(chance.choice((0, 1, 1, 2, 3)))]})


# ------------------------------------------------------------------------------------------------------------- tickets

_material = Tickets(SECRET, MemoryEngine(60), CHECKS, REFUSALS, CLOCK)._key.material
_MATERIALS = [_material, _material, _material, SECRET, b"another key of at least thirty-two bytes"]


async def _show(data: bytes) -> Hashable:
    """Twice, to two nodes: it lets in once, and only if it was signed with the key for tickets."""
    ticket, engine = data.decode("latin-1"), MemoryEngine(60)
    outcomes: list[Hashable] = []
    for _ in range(2):
        node = Tickets(SECRET, engine, CHECKS, REFUSALS, CLOCK)
        try:
            claims = await node.connection(ticket)
        except (Disconnect, Refusal) as why:
            outcomes.append((why.code, str(why)[:30]))
            continue
        assert SIGNATURES.decode(ticket.removeprefix(PREFIX), _material, algorithms=[ALGORITHM])
        assert claims.expires_at is None or claims.expires_at > NOW
        outcomes.append("taken")
    assert outcomes != ["taken", "taken"]
    return tuple(outcomes)


def run_ticket(data: bytes) -> Hashable:
    return _on_loop(_show(data))


def issued(data: bytes) -> Hashable:
    """The input is what the ticket holds."""
    key = VerificationKey("", frozenset({ALGORITHM}), _material)
    return run_ticket((PREFIX + SIGNATURES.encode(data, key.material, ALGORITHM)).encode())


def _held(chance: Random) -> bytes:
    held: dict[str, Any] = {"jti": text(chance) or "1", "exp": NOW + 30}
    if chance.random() < 0.3:
        held[chance.choice(("jti", "exp", "claims"))] = value(chance)
    return json_text(chance, held).rstrip(b"}") + b',"claims":' + claims_text(chance) + b"}"


def _ticket(chance: Random) -> bytes:
    prefix = PREFIX if chance.random() < 0.9 else ""
    return (prefix + SIGNATURES.encode(_held(chance), chance.choice(_MATERIALS), ALGORITHM)).encode()


# ------------------------------------------------------------------------------------- what the application says of one

LINE = b"\n"


async def _ask(data: bytes) -> Hashable:
    """A token, a line, and what the application says of it, as JSON; what is none: it fails."""
    token, _, said = data.partition(LINE)

    async def lookup(asked: str) -> Any:
        return json.loads(said)

    sessions = SessionTokens(lookup, 60, 5, CHECKS, REFUSALS, CLOCK)
    outcomes: list[Hashable] = []
    for _ in range(2):  # the second time, it is known
        try:
            claims = sessions.connection(token.decode("utf-8", "surrogateescape"))
            claims = claims if isinstance(claims, ConnectionClaims) else await claims
        except (Disconnect, Refusal) as why:
            outcomes.append((why.code, str(why)[:30]))
            continue
        assert isinstance(json.loads(said), dict)
        assert claims.expires_at is None or claims.expires_at > NOW
        claims.user.encode()
        outcomes.append("taken")
    assert outcomes[0] == outcomes[1]
    assert len(sessions) <= 1
    await sessions.stop()
    return tuple(outcomes)


def run_session(data: bytes) -> Hashable:
    return _on_loop(_ask(data))


def _said(chance: Random) -> bytes:
    said = claims_text(chance) if chance.random() < 0.8 else json_text(chance)
    return text(chance).replace("\n", " ").encode() + LINE + said


_on_loop = OneLoop()
KEY_WORDS = [b'"%b"' % each.encode() for each in (*_FIELDS, *_VALUES[:-1])] + [b'"keys"', b"[", b"{}", b"null", b","]
TARGETS = [
    Target("keyset", run_key_set, _key_set, KEY_WORDS, fixed=0.02, each=4e-6, swells=400),
    Target("ticket", run_ticket, _ticket, [b".", b"=", b"ticket.", b"-", b"_"], fixed=0.01, each=4e-6),
    Target("held", issued, _held, [*CLAIMS, b'"jti"', b'"claims"'], fixed=0.01, each=4e-6, swells=200),
    Target("session", run_session, _said, [*CLAIMS, LINE], fixed=0.01, each=4e-6, swells=400),
]
