"""The URL of the NATS engine: which servers there are, how they let us in, and what our streams are like."""

import ssl
from typing import Literal, NamedTuple, get_args
from urllib.parse import parse_qsl, urlsplit

from freshet.engines import tls
from freshet.engines.nats import credentials
from freshet.engines.nats.credentials import NatsLogin
from freshet.errors import ConfigError

SCHEMES = ("nats", "tls")
PORT = 4222

Storage = Literal["file", "memory"]

_OPTIONS = ("prefix", "replicas", "storage", "timeout", *credentials.OPTIONS, *tls.OPTIONS)


class NatsServer(NamedTuple):
    """Where a server listens. tls_name: the host name that its certificate has to have; empty: `host`."""

    host: str
    port: int = PORT
    tls_name: str = ""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "NatsServer":
        """`host`, `host:port` or `[::1]:port`. Raises ValueError."""
        parts = urlsplit(f"//{text}")
        return cls(parts.hostname or "localhost", parts.port or PORT)


class NatsSettings(NamedTuple):
    """What an URL says.

    tls: None: without. timeout: seconds, of a connection that is opened, and of each call of the engine.
    prefix: what all our subjects and streams begin with. replicas, storage: of our streams.
    """

    servers: list[NatsServer]
    login: NatsLogin = NatsLogin()
    tls: ssl.SSLContext | None = None
    timeout: float = 5.0
    prefix: str = "freshet"
    replicas: int = 1
    storage: Storage = "file"


def parse(url: str) -> NatsSettings:
    """`nats://[user:password@|token@]host[:port][,host...][?option=...]`, or `tls://...`.

    Raises ConfigError, without the URL, which may hold a secret.
    """
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        userinfo, _, hosts = parts.netloc.rpartition("@")
        servers = [NatsServer.parse(host) for host in hosts.split(",")]
        timeout, replicas = float(options.get("timeout", "5")), int(options.get("replicas", "1"))
        if parts.fragment:
            raise ValueError("what stands behind # would be lost")
    except ValueError as error:
        raise ConfigError(
            "engine", f"not the URL of a NATS ({type(error).__name__}); in a password, # / ? are written %23 %2F %3F"
        ) from None
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
    over_tls = parts.scheme == "tls" or any(name in options for name in tls.OPTIONS)
    return NatsSettings(
        servers,
        credentials.login(userinfo, options),
        tls.context(options, "NATS") if over_tls else None,
        timeout,
        prefix,
        replicas,
        "file" if storage == "file" else "memory",
    )
