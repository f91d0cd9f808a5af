"""Where a Redis is and how it lets us in: what the URL of the engine says.

Nothing here needs the package `redis`, so that an application without it can still say what to install.
"""

import ssl
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from freshet.engines import tls
from freshet.errors import ConfigError

SCHEMES = tuple(f"redis{secure}{kind}" for secure in ("", "s") for kind in ("", "+sentinel", "+cluster"))
_PORTS = {"": 6379, "sentinel": 26379, "cluster": 6379}
_OPTIONS = (
    "prefix",
    "timeout",
    "sentinel_username",
    "sentinel_password",
    *tls.OPTIONS,
)


class RedisAddress(NamedTuple):
    """name: under which the server finds its data again after a restart, if it keeps them; see `lua/log.lua`."""

    host: str
    port: int
    name: str = ""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class RedisAccess(NamedTuple):
    """How a server lets us in. timeout: seconds after which a server that does not reply counts as away."""

    username: str = ""
    password: str = ""
    database: int = 0
    tls: ssl.SSLContext | None = None
    timeout: float = 5.0

    def __repr__(self) -> str:
        return "RedisAccess(...)"  # a password is in no log


class RedisUrl(NamedTuple):
    """What an URL says. kind: empty, `sentinel` or `cluster`. service: what Sentinel calls the master."""

    kind: str
    addresses: list[RedisAddress]
    access: RedisAccess
    service: str = ""
    sentinel: RedisAccess = RedisAccess()
    prefix: str = "freshet"

    @property
    def topic_prefix(self) -> str:
        """What topics begin with. To Redis they are the same in every database, so that they name it."""
        return f"{self.prefix}@{self.access.database}" if self.access.database else self.prefix


def parse(url: str) -> RedisUrl:
    """`redis://[user:password@]host[:port][/database][?prefix=...]`, `redis+sentinel://host,host/service[/database]`,
    `redis+cluster://host,host`; with `rediss` over TLS. Raises ConfigError, without the URL, which may hold a secret.
    """
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        scheme, _, kind = parts.scheme.partition("+")
        login, _, hosts = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        addresses = [_address(host, _PORTS[kind]) for host in hosts.split(",")]
        path = [unquote(part) for part in parts.path.split("/") if part]
        service = path.pop(0) if kind == "sentinel" else ""
        database = int(path.pop(0)) if path and kind != "cluster" else 0
        timeout = float(options.get("timeout", "5"))
        if parts.fragment:
            raise ValueError("what stands behind # would be lost")
    except (ValueError, LookupError) as error:
        raise ConfigError(
            "engine", f"not the URL of a Redis ({type(error).__name__}); in a password, # / ? are written %23 %2F %3F"
        ) from None
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise ConfigError("engine", f"Redis has no option {unknown[0]!r}; there are {', '.join(_OPTIONS)}")
    if path or (not kind and len(addresses) > 1) or not 0.05 <= timeout <= 3600:
        raise ConfigError("engine", "expected one host, a database's number as path, and a timeout in seconds")
    secured = tls.context(options, "Redis") if scheme == "rediss" else None
    return RedisUrl(
        kind,
        addresses,
        RedisAccess(unquote(user), unquote(password), database, secured, timeout),
        service,
        RedisAccess(options.get("sentinel_username", ""), options.get("sentinel_password", ""), 0, secured, timeout),
        options.get("prefix", "freshet"),
    )


def _address(text: str, port: int) -> RedisAddress:
    parts = urlsplit(f"//{text}")  # knows [::1]:6379
    return RedisAddress(parts.hostname or "localhost", parts.port or port)
