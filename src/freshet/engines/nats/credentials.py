"""How a NATS server lets us in: a user and password, a token, a seed (nkey), or a file of credentials (JWT and seed).

The client library signs with the package `nkeys` (and so PyNaCl); `cryptography`, which Freshet has anyway, does the
same in a few lines, and the library takes what signs as a callback.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from freshet.errors import ConfigError

OPTIONS = ("creds", "nkey")  # of an engine's URL: paths of files

_SEED = 18 << 3  # the first five bits of a seed: an S in base 32


class NatsLogin(NamedTuple):
    """What CONNECT holds of us; None: it holds no such thing.

    jwt: what a server of an operator knows us by. public_key: what a server knows a seed by, beginning with U.
    sign: gives the signature of a server's nonce, in base 64.
    """

    user: str | None = None
    password: str | None = None
    token: str | None = None
    jwt: str | None = None
    public_key: str | None = None
    sign: Callable[[str], bytes] | None = None

    def __repr__(self) -> str:
        return "NatsLogin(...)"  # a password is in no log


def login(userinfo: str, options: Mapping[str, str]) -> NatsLogin:
    """userinfo: what stands before the @ of an URL: `user:password`, or a token. Options: see `OPTIONS`.

    Raises ConfigError, without any secret, when a file cannot be read or holds no credentials.
    """
    user, colon, password = userinfo.partition(":")
    known = NatsLogin(unquote(user), unquote(password)) if colon else NatsLogin(token=unquote(user) or None)
    try:
        if "creds" in options:
            text = Path(options["creds"]).read_text()
            sign = _signer(_between(text, "USER NKEY SEED"))[1]
            return known._replace(jwt=_between(text, "NATS USER JWT"), sign=sign)
        if "nkey" in options:
            public_key, sign = _signer(Path(options["nkey"]).read_text().strip())
            return known._replace(public_key=public_key, sign=sign)
    except OSError as error:
        raise ConfigError("engine", f"the credentials for NATS cannot be read: {error.strerror or error}") from None
    except (ValueError, LookupError):
        raise ConfigError("engine", "the file with the credentials for NATS does not hold any") from None
    return known


def _between(text: str, title: str) -> str:
    """The line between `-----BEGIN title-----` and its end. Raises LookupError."""
    return text.split(f"BEGIN {title}-", 1)[1].split("\n", 1)[1].split("---", 1)[0].strip()


def _signer(seed: str) -> tuple[str, Callable[[str], bytes]]:
    """The public key of a seed, as NATS writes it, and what signs with it. Raises ValueError.

    A seed is base 32 of two bytes that name its kind, 32 of the key, and a CRC-16; a public key has one byte and the
    same.
    """
    raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    if len(raw) != 36 or raw[0] & 0xF8 != _SEED or binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise ValueError("not a seed")
    key = Ed25519PrivateKey.from_private_bytes(raw[2:34])
    public = bytes([(raw[0] & 7) << 5 | raw[1] >> 3]) + key.public_key().public_bytes_raw()
    public += binascii.crc_hqx(public, 0).to_bytes(2, "little")

    def sign(nonce: str) -> bytes:
        return base64.urlsafe_b64encode(key.sign(nonce.encode())).rstrip(b"=")

    return base64.b32encode(public).rstrip(b"=").decode(), sign
