"""httpx, as the tests want it: patient where no timeout is given, and quick to begin.

A client of httpx reads all certificates that the world trusts: 20 ms of a processor, and the tests make thousands.
"""

import os
import ssl
from functools import cache
from typing import Any

import httpx
from httpx._transports import default

from tests.tools.patience import seconds

TIMEOUT = 5  # seconds, scaled: httpx's own, which is not

_read = default.create_ssl_context


@cache
def _trusting(*places: str | None) -> ssl.SSLContext:
    """places: where certificates are, as the environment says."""
    return _read()


def _ssl_context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
    if verify is True and cert is None and trust_env:
        return _trusting(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    return _read(verify, cert, trust_env)


def prepare_httpx() -> None:
    """For this process, once."""
    default.create_ssl_context = _ssl_context
    for phase in ("connect", "read", "write", "pool"):
        setattr(httpx.get.__kwdefaults__["timeout"], phase, seconds(TIMEOUT))
