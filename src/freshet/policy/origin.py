"""Where an origin is refused: which web pages may open a session, against cross-site WebSocket hijacking.

A browser says in `Origin` from where a page comes; what is no browser leaves it out. Origins are compared as texts,
never searched in, so that a look-alike cannot match a part.
"""

from collections.abc import Sequence

REFUSAL = "This origin is not allowed here: see the option `origins`.\n"


class Origins:
    """The option `origins`: `https://example.org` exactly, `https://*.example.org` for one or more labels before it,
    `*` for all; without any only the host's own pages."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._allowed = tuple(origin.lower().rstrip("/") for origin in origins)

    def allow(self, origin: str | None, host: str | None) -> bool:
        """Whether a page may connect. origin: the header, or None. host: the request's `Host`."""
        if origin is None:
            return True
        origin = origin.lower()
        scheme, separator, authority = origin.partition("://")
        if not self._allowed:
            return bool(separator) and scheme in ("http", "https") and host is not None and authority == host.lower()
        return any(_matches(origin, allowed) for allowed in self._allowed)


def _matches(origin: str, allowed: str) -> bool:
    # `null` is every sandbox's, so that no entry names it
    if allowed == "*" or (origin == allowed and "://" in origin):
        return True
    scheme, star, domain = allowed.partition("://*.")
    if not star or not origin.startswith(f"{scheme}://") or not origin.endswith(f".{domain}"):
        return False
    labels = origin[len(scheme) + 3 : -len(domain) - 1]
    return bool(labels) and all(each.isalnum() or each in "-." for each in labels) and labels.isascii()
