"""Requests over HTTP that a room answers, and its answers, as they go from node to node."""

from typing import Any

import msgspec

from freshet.errors import Refusal
from freshet.model.json_text import decode
from freshet.model.log import Claims


class HttpRequest(msgspec.Struct, array_like=True, frozen=True):
    """A request to `/rooms/{channel}`. user: by its token; empty: it is anonymous.

    query: the last value of each name. headers: by names in lower case, without cookies and credentials. body: as it
    came, within `limits.message_size`.
    """

    method: str = "GET"
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    body: bytes = b""
    user: str = ""
    client_claims: bytes = b""  # JSON

    @property
    def claims(self) -> Claims:
        """What its token says; empty without a token."""
        claims: Claims = decode(self.client_claims) if self.client_claims else {}
        return claims

    def json(self, type: Any = Any) -> Any:  # noqa: A002 - as in msgspec
        """The body, converted. Raises `Refusal` 107, which is answered with 400, when it does not fit."""
        try:
            return decode(self.body, type)
        except (ValueError, RecursionError) as why:  # also what msgspec raises
            raise Refusal.bad_request(f"body: {why}") from None


class HttpResponse(msgspec.Struct, array_like=True, frozen=True):
    """What a room answers. status: of HTTP. headers: by name."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = {}


to_bytes = msgspec.msgpack.Encoder().encode
request_of = msgspec.msgpack.Decoder(HttpRequest).decode
response_of = msgspec.msgpack.Decoder(HttpResponse).decode
