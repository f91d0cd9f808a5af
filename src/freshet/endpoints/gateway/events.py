"""What Lambda functions and back ends get: the events of a WebSocket API, field by field as AWS sends them.

Recorded at AWS: aws-powertools/powertools-lambda-python, tests/events/apiGatewayWebSocketApi*.json.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from freshet.commands.connections import random_id
from freshet.config.gateway import GatewayOptions
from freshet.endpoints.gateway.selection import CONNECT, DISCONNECT
from freshet.model.query import fields_of
from freshet.runtime.clock import Clock

Headers = Sequence[tuple[bytes, bytes]]
JsonObject = dict[str, Any]

REASONS = {
    1000: "Connection Closed Normally",
    1001: "Going away",
    1005: "Client-side close frame status not set",
    1006: "Connection closed abnormally",
}
NOT_SHOWN = frozenset({"connection", "upgrade", "content-length"})
"""Headers that an authorizer sees and `$connect` does not."""

_SPELLINGS = {
    "sec-websocket-accept": "Sec-WebSocket-Accept",
    "sec-websocket-extensions": "Sec-WebSocket-Extensions",
    "sec-websocket-key": "Sec-WebSocket-Key",
    "sec-websocket-protocol": "Sec-WebSocket-Protocol",
    "sec-websocket-version": "Sec-WebSocket-Version",
    "content-length": "content-length",
    "dnt": "DNT",
}


class Facts(msgspec.Struct, frozen=True):
    """What of a connection is in each of its events. connected_at: epoch milliseconds."""

    id: str
    connected_at: int
    domain: str
    source_ip: str
    user_agent: str = ""
    authorizer: JsonObject | None = None


class Opened(msgspec.Struct, frozen=True):
    """The request that opens a connection, as events have it."""

    headers: list[tuple[str, str]]
    query: list[tuple[str, str]]


def opened(headers: Headers, query: bytes, peer: str, secure: bool, port: int, spelled: Iterable[str] = ()) -> Opened:
    """spelled: names of headers as the application writes them: HTTP does not say how the client did."""
    own = {name.lower(): name for name in spelled}
    pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    names = {name for name, _ in pairs}
    forwarded = {
        "x-forwarded-for": peer,
        "x-forwarded-port": str(port),
        "x-forwarded-proto": "https" if secure else "http",
    }
    pairs += [(name, value) for name, value in forwarded.items() if name not in names]
    # As at AWS, the last is who came here, whatever the client says of itself.
    pairs = [(name, _with_peer(value, peer) if name == "x-forwarded-for" else value) for name, value in pairs]
    spelt = [(own.get(name) or _SPELLINGS.get(name) or name.title(), value) for name, value in pairs]
    return Opened(spelt, fields_of(query.decode("latin-1")))


def _with_peer(said: str, peer: str) -> str:
    return said if said.rpartition(",")[2].strip() == peer else f"{said}, {peer}"


class Events:
    """Makes them."""

    def __init__(self, options: GatewayOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock

    def now(self) -> int:
        """Epoch milliseconds."""
        return int(self._clock.wall() * 1000)

    @property
    def method_arn(self) -> str:
        it = self._options
        return f"arn:aws:execute-api:{it.region}:{it.account}:{it.api_id}/{it.stage}/{CONNECT}"

    def connect(self, facts: Facts, request: Opened) -> JsonObject:
        shown = [(name, value) for name, value in request.headers if name.lower() not in NOT_SHOWN]
        event = _headers(shown)
        if request.query:
            event |= _query(request.query)
        return event | self._common(facts, CONNECT, "CONNECT") | {"isBase64Encoded": False}

    def authorizer(self, facts: Facts, request: Opened) -> JsonObject:
        names = {name.lower() for name, _ in request.headers}
        length = [] if "content-length" in names else [("content-length", "0")]
        return {
            "type": "REQUEST",
            "methodArn": self.method_arn,
            **_headers([*request.headers, *length]),
            **_query(request.query),
            "stageVariables": dict(self._options.variables),
            "requestContext": self._context(facts, CONNECT, "CONNECT"),
        }

    def message(self, facts: Facts, route: str, data: bytes, binary: bool) -> JsonObject:
        context = self._context(facts, route, "MESSAGE", {"messageId": random_id()})
        body = b64encode(data).decode() if binary else data.decode()
        return {"requestContext": context, **self._variables(), "body": body, "isBase64Encoded": binary}

    def disconnect(self, facts: Facts, code: int, reason: str) -> JsonObject:
        why = {"disconnectStatusCode": code, "disconnectReason": reason}
        kept = [("Host", facts.domain), ("x-api-key", ""), ("X-Forwarded-For", ""), ("x-restapi", "")]
        return _headers(kept) | self._common(facts, DISCONNECT, "DISCONNECT", why) | {"isBase64Encoded": False}

    def _common(self, facts: Facts, route: str, kind: str, more: Mapping[str, Any] | None = None) -> JsonObject:
        return {**self._variables(), "requestContext": self._context(facts, route, kind, more)}

    def _variables(self) -> JsonObject:
        return {"stageVariables": dict(self._options.variables)} if self._options.variables else {}

    def _context(self, facts: Facts, route: str, kind: str, more: Mapping[str, Any] | None = None) -> JsonObject:
        now, id = self._clock.wall(), random_id()
        identity = {"sourceIp": facts.source_ip}
        if facts.user_agent:
            identity = {"userAgent": facts.user_agent, "sourceIp": facts.source_ip}
        return {
            "routeKey": route,
            **({"authorizer": facts.authorizer} if facts.authorizer is not None and kind else {}),
            **(more or {}),
            "eventType": kind,
            "extendedRequestId": id,
            "requestTime": datetime.fromtimestamp(now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "messageDirection": "IN",
            "stage": self._options.stage,
            "connectedAt": facts.connected_at,
            "requestTimeEpoch": int(now * 1000),
            "identity": identity,
            "requestId": id,
            "domainName": facts.domain,
            "connectionId": facts.id,
            "apiId": self._options.api_id,
        }


def _multiple(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def _headers(pairs: Sequence[tuple[str, str]]) -> JsonObject:
    return {"headers": dict(pairs), "multiValueHeaders": _multiple(pairs)}


def _query(pairs: Sequence[tuple[str, str]]) -> JsonObject:
    return {"queryStringParameters": dict(pairs), "multiValueQueryStringParameters": _multiple(pairs)}
