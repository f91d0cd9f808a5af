"""Where a NATS is and how it lets us in: the URL of the engine, and the signature that a server asks for."""

import base64
import binascii
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import parse_qsl, unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from freshet.engines import tls
from freshet.errors import ConfigError

SCHEMES = ("nats", "tls")
PORT = 4222

Storage = Literal["file", "memory"]

_OPTIONS = ("prefix", "replicas", "storage", "timeout", "creds", "nkey", *tls.OPTIONS)
_SEED = 18 << 3  # the first five bits of a seed: an S in base 32


class Address(NamedTuple):
    host: str
    port: int = PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, text: str) -> "Address":
        """`host`, `host:port` or `[::1]:port`. Raises ValueError."""
        parts = urlsplit(f"//{text}")
        return cls(parts.hostname or "localhost", parts.port or PORT)


class Access(NamedTuple):
    """How a server lets us in: what CONNECT says, and what signs the server's nonce."""

    said: Mapping[str, str] = MappingProxyType({})
    sign: Callable[[bytes], str] | None = None
    tls: ssl.SSLContext | None = None
    timeout: float = 5.0

    def __repr__(self) -> str:
        return "Access(...)"  # a password is in no log


class Where(NamedTuple):
    """What an URL says. prefix: what all our subjects and streams begin with. replicas, storage: of our streams."""

    addresses: list[Address]
    access: Access
    prefix: str = "freshet"
    replicas: int = 1
    storage: Storage = "file"


def parse(url: str) -> Where:
    """`nats://[user:password@|token@]host[:port][,host...][?option=...]`, or `tls://...`.

    Raises ConfigError, without the URL, which may hold a secret.
    """
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        login, _, hosts = parts.netloc.rpartition("@")
        addresses = [Address.of(host) for host in hosts.split(",")]
        timeout, replicas = float(options.get("timeout", "5")), int(options.get("replicas", "1"))
    except ValueError as error:
        raise ConfigError("engine", f"not the URL of a NATS: {type(error).__name__}") from None
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise ConfigError("engine", f"NATS has no option {unknown[0]!r}; there are {', '.join(_OPTIONS)}")
    prefix, storage = options.get("prefix", "freshet"), options.get("storage", "file")
    if parts.path.strip("/") or not 0.05 <= timeout <= 3600 or replicas not in (1, 3, 5):
        raise ConfigError("engine", "expected hosts without a path, a timeout in seconds, and 1, 3 or 5 replicas")
    if storage not in get_args(Storage):
        raise ConfigError("engine", "storage is file or memory")
    if not prefix.isascii() or not prefix.replace("-", "").replace("_", "").isalnum():
        raise ConfigError("engine", "a prefix in NATS is of letters, digits, - and _")
    said, sign = _login(login, options)
    over_tls = parts.scheme == "tls" or any(name in options for name in tls.OPTIONS)
    secured = tls.context(options, "NATS") if over_tls else None
    return Where(
        addresses, Access(said, sign, secured, timeout), prefix, replicas, "file" if storage == "file" else "memory"
    )


def _login(login: str, options: dict[str, str]) -> tuple[dict[str, str], Callable[[bytes], str] | None]:
    """What CONNECT says of us, and what signs."""
    user, colon, password = login.partition(":")
    said = (
        {"user": unquote(user), "pass": unquote(password)} if colon else {"auth_token": unquote(user)} if user else {}
    )
    try:
        if "creds" in options:
            text = Path(options["creds"]).read_text()
            said["jwt"] = _between(text, "NATS USER JWT")
            return said, _signer(_between(text, "USER NKEY SEED"))[1]
        if "nkey" in options:
            said["nkey"], sign = _signer(Path(options["nkey"]).read_text().strip())
            return said, sign
    except OSError as error:
        raise ConfigError("engine", f"the credentials for NATS cannot be read: {error.strerror or error}") from None
    except (ValueError, LookupError):
        raise ConfigError("engine", "the file with the credentials for NATS does not hold any") from None
    return said, None


def _between(text: str, what: str) -> str:
    """The line between `-----BEGIN what-----` and its end. Raises LookupError."""
    return text.split(f"BEGIN {what}-", 1)[1].split("\n", 1)[1].split("---", 1)[0].strip()


def _signer(seed: str) -> tuple[str, Callable[[bytes], str]]:
    """The public key of a seed, as NATS writes it, and what signs with it. Raises ValueError.

    A seed is base 32 of two bytes that say what it is for, 32 of the key, and a CRC-16; a public key has one byte and
    the same.
    """
    raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    if len(raw) != 36 or raw[0] & 0xF8 != _SEED or binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise ValueError("not a seed")
    key = Ed25519PrivateKey.from_private_bytes(raw[2:34])
    public = bytes([(raw[0] & 7) << 5 | raw[1] >> 3]) + key.public_key().public_bytes_raw()
    public += binascii.crc_hqx(public, 0).to_bytes(2, "little")

    def sign(nonce: bytes) -> str:
        return base64.urlsafe_b64encode(key.sign(nonce)).rstrip(b"=").decode()

    return base64.b32encode(public).rstrip(b"=").decode(), sign


def greeting(access: Access, info: dict[str, Any]) -> dict[str, Any]:
    """What CONNECT says to a server that introduced itself by `info`."""
    said: dict[str, Any] = {
        **access.said,
        "verbose": False,
        "pedantic": False,
        "tls_required": access.tls is not None,
        "name": "freshet",
        "lang": "python",
        "version": "freshet",
        "protocol": 1,
        "echo": True,
        "headers": True,
        "no_responders": True,
    }
    if access.sign is not None:
        said["sig"] = access.sign(str(info.get("nonce", "")).encode())
    return said
