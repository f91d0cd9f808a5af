"""The short way to check a token: an issuer's tokens all begin with the same header, which need not be read again.

What a header says decides with which key and by which algorithm a token is checked, and whether it is taken at all. So
a header of which a token passed all of that is remembered, byte for byte, with the secret and the hash that it led to.
The next token that begins with these bytes is as right as its signature by that secret is.

Only secrets are remembered here, which belong to a configuration and do not change: public keys may be fetched, and
withdrawn. Nothing of a token is remembered but its header: its signature and all that it claims are looked at each
time.
"""

import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple

from freshet.policy.keys import HASHES, VerificationKey

HEADERS = 64  # a header of each issuer and of each key; who puts more than that into them has their tokens read anew
LONGEST = 1024  # bytes of one


class _Check(NamedTuple):
    """How to check the tokens that begin with a header: the secret, and the hash of its HMAC."""

    secret: bytes
    hash: str


class KnownHeaders:
    """Of one set of keys, for as long as that is in force."""

    __slots__ = ("_checks",)

    def __init__(self) -> None:
        self._checks: dict[str, _Check] = {}

    def __len__(self) -> int:
        return len(self._checks)

    def remember(self, token: str, key: VerificationKey, algorithm: str) -> None:
        """A token that begins so has been accepted, by that key. The oldest give way."""
        header = token.partition(".")[0]
        if algorithm not in HASHES or not isinstance(key.material, bytes) or len(header) > LONGEST:
            return
        if len(self._checks) >= HEADERS and header not in self._checks:
            del self._checks[next(iter(self._checks))]
        self._checks[header] = _Check(key.material, HASHES[algorithm])

    def claims(self, token: str) -> bytes | None:
        """What a token claims, as JSON, if it is signed as the last one was that began so.

        None: that is not so, or there is any doubt, such as another form than the usual; nobody knows yet whether the
        token is right.
        """
        header, _, rest = token.partition(".")
        check = self._checks.get(header)
        if check is None:
            return None
        payload, _, signature = rest.partition(".")
        try:
            expected = hmac.digest(check.secret, f"{header}.{payload}".encode("ascii"), check.hash)
            # Compared as it is written, so that one signature has one form: without padding, and nothing behind it.
            if not hmac.compare_digest(_written(expected), signature.encode("ascii")):
                return None
            claims = urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        except (UnicodeEncodeError, binascii.Error):
            return None
        return claims if _written(claims) == payload.encode("ascii") else None


def _written(data: bytes) -> bytes:
    """As a part of a token: RFC 7515, 2, "with all trailing '=' characters omitted"."""
    return urlsafe_b64encode(data).rstrip(b"=")
