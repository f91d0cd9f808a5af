"""The keys that tokens are checked with, and what each is good for: the key decides, never the token.

A secret checks HMAC signatures and nothing else, a public key those of its own kind. So no token can choose how it is
checked (RFC 8725, sections 3.1 and 3.5), and a key is not weaker than RFC 7518 asks.
"""

import logging
import os
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm, get_default_algorithms

from freshet.config import Tokens
from freshet.errors import ConfigError

# The bytes of a secret. RFC 7518, 3.2: "A key of the same size as the hash output [...] or larger MUST be used".
SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
HASHES = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}  # of an HMAC
# RFC 7518, 3.3 and 3.5: "A key of size 2048 bits or larger MUST be used with these algorithms."
RSA_BITS = 2048
RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
EDWARDS = "EdDSA"
PUBLIC = (*RSA, *CURVES.values(), EDWARDS)
ALGORITHMS = (*SECRET_BYTES, *PUBLIC)

log = logging.getLogger("freshet")


class VerificationKey(NamedTuple):
    """kid: its id, or empty. algorithms: those that it may check. material: a secret's bytes, or a public key."""

    kid: str
    algorithms: frozenset[str]
    material: Any

    def __repr__(self) -> str:
        return f"<VerificationKey {self.kid!r} {', '.join(sorted(self.algorithms))}>"


class RemoteKeys(Protocol):
    """Keys that are fetched from elsewhere."""

    def find(self, kid: str, algorithm: str) -> Sequence[VerificationKey] | Awaitable[Sequence[VerificationKey]]:
        """As `fitting`; or an awaitable of that, if it has to be fetched. Raises `UncheckedToken`."""


class _Hmac(HMACAlgorithm):
    """For secrets that were looked at when they were set, instead of with every token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key.encode() if isinstance(key, str) else key

    def check_key_length(self, key: bytes) -> str | None:
        return None


def _signatures() -> jwt.PyJWS:
    jws, known = jwt.PyJWS(algorithms=[]), get_default_algorithms()
    hashes = (HMACAlgorithm.SHA256, HMACAlgorithm.SHA384, HMACAlgorithm.SHA512)
    for name, digest in zip(SECRET_BYTES, hashes, strict=True):
        jws.register_algorithm(name, _Hmac(digest))
    for name in PUBLIC:
        jws.register_algorithm(name, known[name])
    return jws


SIGNATURES = _signatures()
"""Makes and checks JSON Web Signatures. It follows nothing that a header names: no `jku`, `jwk`, `x5u`, `x5c`."""


def fitting(keys: Iterable[VerificationKey], kid: str, algorithm: str) -> list[VerificationKey]:
    """The keys that may have signed a token: with its id if one has that, otherwise those without an id."""
    fit = [key for key in keys if algorithm in key.algorithms]
    if not kid:
        return fit
    return [key for key in fit if key.kid == kid] or [key for key in fit if not key.kid]


# --------------------------------------------------------------------------------------------------- of a configuration


def checked_algorithms(algorithms: Sequence[str] | None) -> tuple[str, ...]:
    """Raises ConfigError. None: all."""
    chosen = tuple(ALGORITHMS if algorithms is None else algorithms)
    unknown = [name for name in chosen if name not in ALGORITHMS]
    if unknown or not chosen:
        what = f"no algorithm {unknown[0]!r}" if unknown else "expected one or more"
        raise ConfigError("tokens.algorithms", f"{what}. Allowed: {', '.join(ALGORITHMS)}")
    return chosen


def secret_key(
    secret: str, algorithms: Sequence[str] | None, *, kid: str = "", path: str = "tokens.secret", weak: bool = False
) -> VerificationKey:
    """The key that a secret is. weak: a short one is only warned of. Raises ConfigError, without the secret."""
    if not secret:
        raise ConfigError(path, "expected a text that is not empty")
    try:
        material = HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except (jwt.InvalidKeyError, UnicodeEncodeError) as error:
        raise ConfigError(path, f"expected a random text: {_why(error)}") from None
    if material != material.strip():  # it counts: who signs the tokens may have it from the same place
        log.warning(
            "%s begins or ends with white space: tokens that are signed without it are refused, look at where it comes "
            "from",
            path,
        )
    asked = [name for name in checked_algorithms(algorithms) if name in SECRET_BYTES]
    if not asked:
        raise ConfigError("tokens.algorithms", f"{path} is a secret, for {', '.join(SECRET_BYTES)}: none is accepted")
    least = min(SECRET_BYTES[name] for name in asked)
    if len(material) >= least:
        return VerificationKey(kid, frozenset(it for it in asked if SECRET_BYTES[it] <= len(material)), material)
    why = f"RFC 7518 asks for {least} random bytes or more, this one has {len(material)}"
    if not weak:
        raise ConfigError(path, f"{why}: python -c 'import secrets; print(secrets.token_hex({least}))' makes one")
    log.warning("%s: %s: outside of --dev it is refused", path, why)
    return VerificationKey(kid, frozenset(asked), material)


def _why(error: Exception) -> str:
    """Without the secret, which an error of Unicode quotes."""
    return str(error) if isinstance(error, jwt.InvalidKeyError) else "this one is not UTF-8"


def public_key(
    given: str, algorithms: Sequence[str] | None, *, kid: str = "", path: str = "tokens.public_key"
) -> VerificationKey:
    """The key of a PEM text, or of a file that holds one. Raises ConfigError."""
    pem = given
    if "-----BEGIN" not in given:
        try:
            pem = Path(given).read_text("ascii")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise ConfigError(
                path, f"expected PEM or a file that holds it; {given[:100]!r} cannot be read: {why}"
            ) from None
    if "PRIVATE KEY" in pem:
        raise ConfigError(path, "this is a private key: Freshet needs the public one, and nobody else needs this one")
    try:
        material = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(path, "expected PEM that begins with -----BEGIN PUBLIC KEY-----") from None
    own = algorithms_of(material)
    if not own:
        raise ConfigError(path, f"expected RSA of {RSA_BITS} bits or more, EC (P-256, P-384, P-521), Ed25519 or Ed448")
    accepted = frozenset(own).intersection(checked_algorithms(algorithms))
    if not accepted:
        raise ConfigError("tokens.algorithms", f"{path} is a key for {', '.join(own)}: none of them is accepted")
    return VerificationKey(kid, accepted, material)


def algorithms_of(key: Any) -> tuple[str, ...]:
    """What a public key can check; nothing, if it is of another kind, or weak."""
    if isinstance(key, RSAPublicKey):
        return RSA if key.key_size >= RSA_BITS else ()
    if isinstance(key, EllipticCurvePublicKey):
        return (CURVES[key.curve.name],) if key.curve.name in CURVES else ()
    return (EDWARDS,) if isinstance(key, Ed25519PublicKey | Ed448PublicKey) else ()


def configured_keys(
    config: Tokens, environment: Mapping[str, str] = os.environ, *, weak: bool = False
) -> list[VerificationKey]:
    """The keys beside `tokens.secret`. Raises ConfigError."""
    found = []
    if config.public_key:
        found.append(public_key(config.public_key, config.algorithms))
    for index, key in enumerate(config.keys):
        path = f"tokens.keys[{index}]"
        if key.public_key is not None:
            found.append(public_key(key.public_key, config.algorithms, kid=key.kid, path=f"{path}.public_key"))
            continue
        secret = key.secret if key.secret is not None else environment.get(key.secret_env or "", "")
        if not secret and key.secret_env:
            raise ConfigError(f"{path}.secret_env", f"the environment variable {key.secret_env} is not set")
        found.append(secret_key(secret, config.algorithms, kid=key.kid, path=f"{path}.secret", weak=weak))
    return found


# --------------------------------------------------------------------------------------------------------- of a key set


_KINDS = {"RSA": RSAAlgorithm.from_jwk, "EC": ECAlgorithm.from_jwk, "OKP": OKPAlgorithm.from_jwk}


def published_key(jwk: Mapping[str, Any], algorithms: Iterable[str]) -> VerificationKey | None:
    """The key of an entry of a JSON Web Key Set (RFC 7517), if it is a public one that checks signatures.

    None: it is for encryption, a secret, weak, or of a kind that is not known here; RFC 7517, 5: "Implementations
    SHOULD ignore JWKs within a JWK Set that use "kty" values that are not understood by them".
    """
    kid, operations = jwk.get("kid", ""), jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    read = _KINDS.get(str(jwk.get("kty")))
    if read is None or not isinstance(kid, str):
        return None
    public = {name: value for name, value in jwk.items() if name in ("kty", "n", "e", "crv", "x", "y")}
    try:
        material = read(public)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
    own = frozenset(algorithms_of(material)).intersection(algorithms)
    if "alg" in jwk:
        own &= {jwk["alg"]} if isinstance(jwk["alg"], str) else frozenset()
    return VerificationKey(kid, own, material) if own else None
