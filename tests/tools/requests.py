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

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # in the environment: whom to trust instead
TIMEOUT = 5  # seconds, scaled: httpx's own, which is not

_read = default.create_ssl_context


@cache
def _trusting(*certificates: str | None) -> ssl.SSLContext:
    return _read()


def _ssl_context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
    if verify is not True or cert is not None or not trust_env:
        return _read(verify, cert, trust_env)
    return _trusting(*map(os.environ.get, CERTIFICATES))


def prepare_httpx() -> None:
    """For this process, once."""
    default.create_ssl_context = _ssl_context
    for phase in ("connect", "read", "write", "pool"):
        setattr(httpx.get.__kwdefaults__["timeout"], phase, seconds(TIMEOUT))
