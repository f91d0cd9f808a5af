"""Where a request comes from: which web pages may open a session, and under which names the server answers at all.

A browser says in `Origin` from where a page comes; what is no browser leaves it out. On most GET requests of a page to
its own host it leaves it out too, and says `Sec-Fetch-Site` instead, though only where the connection is trustworthy
(https, or loopback). What has neither sign is let through without its cookies, unless it can only read.

Origins and hosts are compared as texts, never searched in, so that a look-alike cannot match a part.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

REFUSAL = "This origin is not allowed here: see the option `origins`.\n"
NAVIGATION = "This is for programs and for scripts of a page, not for an address bar, a link or a frame.\n"

# Names that nobody can register, so that no page of a stranger can be served under them.
PRIVATE_DOMAINS = (".localhost", ".local", ".internal", ".test")

LONGEST_ADDRESS = 64  # characters, with brackets and the name of an interface


class Judged(NamedTuple):
    """refusal: why the request is refused; empty: it may go on.

    ambient: whether cookies count, which a browser attaches whoever made the request. shared: any page may have made
    it.
    """

    refusal: str = ""
    ambient: bool = True
    shared: bool = False


_PORTS = {"http": ":80", "https": ":443"}


class Origins:
    """The option `origins`: `https://example.org` exactly, `https://*.example.org` for one or more labels before it,
    `*` for all; without any only the host's own pages. dev: pages of this machine too, on whatever port."""

    def __init__(self, origins: Sequence[str], *, dev: bool = False) -> None:
        self._allowed = tuple(_without_default_port(each.lower().rstrip("/")) for each in origins if each != "*")
        self._all = "*" in origins
        self._dev = dev

    def judge(self, method: str, headers: Mapping[str, str]) -> Judged:
        """What of a request counts. method: HTTP's, or "WEBSOCKET". headers: names in lower case."""
        origin, host = headers.get("origin"), headers.get("host")
        if origin is not None:
            if self._listed(origin.lower(), host):
                return Judged()
            return Judged(ambient=False, shared=True) if self._all else Judged(REFUSAL)
        if method == "WEBSOCKET":
            return Judged(ambient=False)  # a browser always says from where
        site = headers.get("sec-fetch-site")
        if headers.get("sec-fetch-mode") == "navigate":
            return Judged(NAVIGATION)
        if site in ("cross-site", "same-site"):
            return Judged(REFUSAL)
        return Judged(ambient=method == "GET" or site == "same-origin")

    def _listed(self, origin: str, host: str | None) -> bool:
        if self._dev and host is not None and _is_loopback(_name(host)) and _is_loopback(_page_host(origin)):
            return True
        origin = _without_default_port(origin)
        if self._allowed:
            return any(_matches(origin, allowed) for allowed in self._allowed)
        if self._all or not host or not _page_authority(origin):
            return False
        scheme, _, _ = origin.partition("://")
        return origin == _without_default_port(f"{scheme}://{host.lower()}")


def _page_authority(origin: str) -> str:
    """Host and port of a page; empty: of no web page."""
    scheme, _, authority = origin.partition("://")
    return authority if scheme in _PORTS else ""


def _page_host(origin: str) -> str:
    return _name(_page_authority(origin))


def _without_default_port(origin: str) -> str:
    """A browser leaves out the port that its scheme implies; proxies, and who writes it down, may name it."""
    scheme, _, _ = origin.partition("://")
    return origin.removesuffix(_PORTS.get(scheme, ""))


def _matches(origin: str, allowed: str) -> bool:
    # `null` is every sandbox's, so that no entry names it
    if origin == allowed and "://" in origin:
        return True
    scheme, star, domain = allowed.partition("://*.")
    if not star or not origin.startswith(f"{scheme}://") or not origin.endswith(f".{domain}"):
        return False
    labels = origin[len(scheme) + 3 : -len(domain) - 1]
    return bool(labels) and all(each.isalnum() or each in "-." for each in labels) and labels.isascii()


class Hosts:
    """The option `hosts`: the names under which the server answers, exactly or `*.example.org`.

    dev: without any, addresses and names that nobody can register. A page of a stranger could otherwise let its own
    name lead to this machine (DNS rebinding), and would then be of the same origin. Without dev: any name.
    """

    def __init__(self, hosts: Sequence[str], *, dev: bool = False) -> None:
        self._allowed = tuple(host.lower() for host in hosts)
        self._dev = dev

    def allow(self, host: str | None) -> bool:
        """host: the request's `Host`, which every browser sends; None: it has none."""
        if host is None or not (self._allowed or self._dev):
            return True
        name = _name(host)
        if self._allowed:
            return any(_names(name, allowed) for allowed in self._allowed)
        return _is_private(name)


def _name(host: str) -> str:
    """Of `name:port`, `[address]:port`: the name, in lower case; empty for what is neither."""
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name = host
    elif not port.isdecimal():
        return ""
    return name.lower().removesuffix(".")


def _names(name: str, allowed: str) -> bool:
    return allowed in ("*", name) or (allowed.startswith("*.") and name.endswith(allowed[1:]))


def _is_address(name: str) -> bool:
    return len(name) <= LONGEST_ADDRESS and _parses(name)


@lru_cache(1024)  # a client asks for the same host again and again
def _parses(name: str) -> bool:
    try:
        ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True


def _is_private(name: str) -> bool:
    return bool(name) and ("." not in name or name.endswith(PRIVATE_DOMAINS) or _is_address(name))


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_address(name) and ip_address(name.strip("[]")).is_loopback
