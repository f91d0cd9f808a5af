"""Keys: which algorithms each is good for, with real keys of every kind, and what is no key."""

import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from freshet.config import Tokens
from freshet.errors import ConfigError, Disconnect
from freshet.policy.keys import ALGORITHMS, PUBLIC, VerificationKey, fitting, public_key, published_key
from freshet.policy.tokens import TokenVerifier
from tests.tools.issuer import KEYS, SIGNS, jwk, private_pem, public_pem, token


def verifier(pem: str, **options: Any) -> TokenVerifier:
    return TokenVerifier.from_config(Tokens(public_key=pem, **options), None)


def user(verifier: TokenVerifier, token: str) -> str | None:
    """Whom it lets in; None: nobody."""
    try:
        return verifier.connection(token).user  # type: ignore[union-attr]
    except Disconnect as why:
        return None if why.code == 3500 else str(why)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("algorithm", SIGNS)
def test_a_public_key_checks_the_algorithms_of_its_kind_and_no_other(key: str, algorithm: str) -> None:
    fits = SIGNS[algorithm] == key or (algorithm == "EdDSA" and key == "Ed448")
    signed = token(algorithm, key=KEYS[key] if fits else None)
    assert user(verifier(public_pem(KEYS[key])), signed) == ("alice" if fits else None)


@pytest.mark.parametrize("algorithm", SIGNS)
def test_a_key_of_the_same_kind_that_is_not_ours_checks_nothing(algorithm: str) -> None:
    made = {"R": lambda: rsa.generate_private_key(65537, 2048), "P": lambda: rsa.generate_private_key(65537, 2048)}
    if algorithm[0] in made:
        other: Any = made[algorithm[0]]()
    elif algorithm == "EdDSA":
        other = Ed25519PrivateKey.generate()
    else:
        other = ec.generate_private_key(KEYS[SIGNS[algorithm]].curve)
    assert user(verifier(public_pem(KEYS[SIGNS[algorithm]])), token(algorithm, key=other)) is None


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("key", KEYS)
def test_a_public_key_is_never_taken_for_a_secret(key: str, algorithm: str) -> None:
    """RFC 8725, 2.1: "an RS256 (RSA, 2048 bit) parameter value can be changed into HS256 [...]"."""
    pem = public_pem(KEYS[key])
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm}).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(b'{"sub":"alice"}').rstrip(b"=")
    for secret in (pem.encode(), pem.strip().encode(), _der(KEYS[key])):
        signature = base64.urlsafe_b64encode(_hmac(algorithm, secret, header + b"." + body)).rstrip(b"=")
        assert user(verifier(pem), b".".join((header, body, signature)).decode()) is None


def _der(key: Any) -> bytes:
    der: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der


def _hmac(algorithm: str, secret: bytes, signed: bytes) -> bytes:
    import hmac

    return hmac.digest(secret, signed, algorithm.replace("HS", "sha"))


@pytest.mark.parametrize("name", ["jku", "jwk", "x5u", "x5c", "x5t"])
def test_what_a_header_says_of_keys_is_not_followed(name: str) -> None:
    """RFC 8725, 3.10. The attacker's own key, wherever the header has it, lets nobody in."""
    attacker = rsa.generate_private_key(65537, 2048)
    values: dict[str, Any] = {"jku": "http://127.0.0.1:1/jwks", "x5u": "http://127.0.0.1:1/", "jwk": jwk(attacker)}
    header = {name: values.get(name, ["MIIB"])}
    forged = jwt.encode({"sub": "alice"}, attacker, "RS256", header)
    right = jwt.encode({"sub": "alice"}, KEYS["RSA"], "RS256", header)
    assert user(verifier(public_pem(KEYS["RSA"])), forged) is None
    assert user(verifier(public_pem(KEYS["RSA"])), right) == "alice"


@pytest.mark.parametrize("accepted", [["RS256"], ["PS256"], ["RS256", "PS512"]])
def test_the_configuration_chooses_among_what_fits(accepted: list[Any]) -> None:
    strict = verifier(public_pem(KEYS["RSA"]), algorithms=accepted)
    for algorithm in [name for name, key in SIGNS.items() if key == "RSA"]:
        assert user(strict, token(algorithm)) == ("alice" if algorithm in accepted else None)


def test_a_public_key_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text(public_pem(KEYS["P-256"]))
    assert user(verifier(str(file)), token("ES256")) == "alice"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (private_pem(KEYS["RSA"]), "this is a private key"),
        (public_pem(rsa.generate_private_key(65537, 1024)), "RSA of 2048 bits or more"),
        (public_pem(ec.generate_private_key(ec.SECP256K1())), "P-256"),
        (public_pem(x25519.X25519PrivateKey.generate()), "Ed25519"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "expected PEM"),
        ("missing.pem", "cannot be read: No such file"),
    ],
    ids=["private", "RSA 1024", "secp256k1", "X25519", "broken", "missing"],
)
def test_what_is_no_public_key_is_named_at_once(given: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as mistake:
        verifier(given)
    assert mistake.value.path == "tokens.public_key"
    assert "BEGIN" not in str(mistake.value) or "BEGIN PUBLIC KEY" in str(mistake.value)


def test_a_key_none_of_whose_algorithms_is_accepted_is_named() -> None:
    with pytest.raises(ConfigError, match=r"tokens.public_key is a key for EdDSA"):
        verifier(public_pem(KEYS["Ed25519"]), algorithms=["RS256"])


def test_with_public_keys_alone_no_token_can_be_made() -> None:
    with pytest.raises(ConfigError, match="FRESHET_SECRET"):
        verifier(public_pem(KEYS["RSA"])).issue("alice")


# --------------------------------------------------------------------------------------------------------- of a key set


@pytest.mark.parametrize("algorithm", SIGNS)
def test_an_entry_of_a_key_set_is_the_key_that_it_describes(algorithm: str) -> None:
    key = published_key(jwk(KEYS[SIGNS[algorithm]], "a"), ALGORITHMS)
    assert key is not None
    assert key.kid == "a"
    assert algorithm in key.algorithms
    assert user(TokenVerifier(None, keys=[key]), token(algorithm, "a")) == "alice"


def test_an_entry_that_names_its_algorithm_is_for_that_alone() -> None:
    for algorithm in ("RS256", "PS256"):
        key = published_key(jwk(KEYS["RSA"], alg=algorithm), PUBLIC)
        assert key is not None
        assert key.algorithms == {algorithm}


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"kty": "oct", "k": "c2VjcmV0" * 8, "kid": "a"},
        {"kty": "AKP", "alg": "ML-DSA-44"},
        {"kty": ["RSA"]},
        jwk(KEYS["RSA"], use="enc"),
        jwk(KEYS["RSA"], key_ops=["encrypt"]),
        jwk(KEYS["RSA"], key_ops="verify"),
        jwk(KEYS["RSA"], alg="RSA-OAEP"),
        jwk(KEYS["RSA"], alg="HS256"),
        jwk(KEYS["RSA"], alg=["RS256"]),
        jwk(KEYS["RSA"], alg="ES256"),
        jwk(KEYS["RSA"], kid=7) | {"kid": 7},
        jwk(KEYS["RSA"], n="AQAB"),
        jwk(KEYS["RSA"], n=5),
        jwk(KEYS["RSA"], n=None),
        jwk(KEYS["RSA"], e="!!"),
        jwk(rsa.generate_private_key(65537, 1024)),
        jwk(KEYS["P-256"], crv="P-384"),
        jwk(KEYS["P-256"], x="AAAA"),
        jwk(KEYS["P-256"], crv=["P-256"]),
        jwk(ec.generate_private_key(ec.SECP256K1())),
        jwk(KEYS["Ed25519"], crv="X25519"),
        jwk(KEYS["Ed25519"], x="AAAA"),
    ],
    ids=lambda entry: json.dumps({name: value for name, value in entry.items() if len(str(value)) < 40})[:90],
)
def test_an_entry_that_checks_no_signatures_is_passed_over(entry: dict[str, Any]) -> None:
    assert published_key(entry, PUBLIC) is None


def test_the_private_half_in_a_key_set_is_not_looked_at() -> None:
    private = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEYS["RSA"]))
    private.pop("key_ops")
    key = published_key(private, PUBLIC)
    assert key is not None
    assert not hasattr(key.material, "private_numbers")


def test_a_key_shows_nothing_of_itself() -> None:
    assert repr(public_key(public_pem(KEYS["RSA"]), ["RS256"], kid="a")) == "<VerificationKey 'a' RS256>"
    assert "secret" not in repr(VerificationKey("a", frozenset({"HS256"}), b"secret"))


def test_a_token_is_tried_with_the_key_that_it_names_or_with_those_without_a_name() -> None:
    a, b, plain, other = (
        VerificationKey(kid, frozenset({algorithm}), b"")
        for kid, algorithm in (("a", "RS256"), ("b", "RS256"), ("", "RS256"), ("a", "ES256"))
    )
    keys = [a, b, plain, other]
    assert fitting(keys, "a", "RS256") == [a]
    assert fitting(keys, "c", "RS256") == [plain]
    assert fitting(keys, "", "RS256") == [a, b, plain]
    assert fitting(keys, "a", "ES256") == [other]
    assert fitting(keys, "b", "ES256") == []
    assert fitting(keys, "", "none") == []
