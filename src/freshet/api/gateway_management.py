"""`/{stage}/@connections/{id}`: what AWS's API for the management of connections does, for its clients, unmodified.

Source: botocore, data/apigatewaymanagementapi/2018-11-29/service-2.json.
"""

import logging
from base64 import b64decode
from binascii import Error
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import quote

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from freshet.commands.connections import ConnectionInfo, ConnectionReply, ConnectionRequest, Connections, Deed
from freshet.observe.logs import BoundedLog
from freshet.policy.sigv4 import SignatureRefused, SignatureVerifier

bounded_log = BoundedLog(logging.getLogger("freshet.gateway"))

ERRORS = {
    400: "BadRequestException",
    403: "ForbiddenException",
    404: "NotFoundException",
    405: "MethodNotAllowedException",
    410: "GoneException",
    413: "PayloadTooLargeException",
    429: "LimitExceededException",
    503: "ServiceUnavailableException",
}
DEEDS: Mapping[str, Deed] = {"POST": "post", "GET": "get", "DELETE": "delete"}
BATCH = 10_000  # connections of one request
ROOM = 1024 * 1024  # bytes of a batch beside what is sent


class BatchPost(msgspec.Struct, forbid_unknown_fields=True):
    """The same to several connections. data: text; base64: bytes instead."""

    ids: list[str]
    data: str = ""
    base64: str = ""


class GatewayManagement:
    """verifier: None: there are no keys. dev: then this machine may call without a signature."""

    def __init__(self, connections: Connections, verifier: SignatureVerifier | None, *, dev: bool) -> None:
        self._connections = connections
        self._verifier = verifier
        self._dev = dev

    @property
    def routes(self) -> list[BaseRoute]:
        paths = ("/{stage}/@connections/{id:freshet_channel}", "/@connections/{id:freshet_channel}")
        return [Route(path, self) for path in (*paths, "/{stage}/@connections", "/@connections")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(scope, receive)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        parameters, method = scope["path_params"], scope["method"]
        if parameters.get("stage", self._connections.stage) != self._connections.stage or not self._connections.open:
            return _error(404, "there is no such stage: see the options of [gateway]")
        limit = self._connections.post_size
        batch = "id" not in parameters
        body = await self._connections.read_body(receive, limit * 2 + ROOM if batch else limit)
        if body is None:
            return _error(413, f"at most {limit} bytes may be sent at once, see gateway.message_size")
        try:
            self._admit(scope, body)
        except SignatureRefused as why:
            bounded_log.warning("refused", "gateway: a call of @connections was refused with 403: %s", why)
            return _error(403, str(why))
        if batch:
            return await self._batch(body) if method == "POST" else _error(405, "expected POST")
        deed = DEEDS.get(method)
        if deed is None:
            return _error(405, "expected POST, GET or DELETE")
        return _response(await self._connections.do(deed, parameters["id"], body))

    def _admit(self, scope: Scope, body: bytes) -> None:
        """Raises `SignatureRefused`."""
        headers = scope["headers"]
        signed = any(name == b"authorization" for name, _ in headers)
        if self._verifier is not None:
            raw = scope.get("raw_path") or quote(scope["path"]).encode()
            self._verifier.verify(scope["method"], raw, scope["query_string"], headers, body)
        elif not self._dev:
            raise SignatureRefused("the server has no keys: set [[gateway.keys]]")
        elif not _is_loopback(scope) or any(name in (b"origin", b"x-forwarded-for") for name, _ in headers):
            raise SignatureRefused(
                "without [[gateway.keys]] only programs of this machine may call"
                + (", signed or not" if signed else "")
            )

    async def _batch(self, body: bytes) -> Response:
        try:
            it = msgspec.json.decode(body, type=BatchPost)
            data = b64decode(it.base64, validate=True) if it.base64 else it.data.encode()
        except (msgspec.MsgspecError, Error, ValueError) as error:
            return _error(400, f'expected {{"ids": [...], "data": "..."}}: {error}')
        if len(it.ids) > BATCH:
            return _error(400, f"ids: at most {BATCH}")
        replies = await self._connections.do_all(ConnectionRequest("post", it.ids, data))
        if replies and all(reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE for reply in replies):
            return _response(replies[0])
        failed = [
            {"id": id, "status": reply.status, "error": ERRORS.get(reply.status, "")}
            for id, reply in zip(it.ids, replies, strict=True)
            if reply.status != HTTPStatus.OK
        ]
        return _json({"posted": len(replies) - len(failed), "failed": failed})


def _response(reply: ConnectionReply) -> Response:
    if reply.info is not None:
        return _json(_described(reply.info))
    if reply.status in (HTTPStatus.OK, HTTPStatus.NO_CONTENT):
        return Response(None, reply.status)
    return _error(reply.status, reply.message)


def _described(info: ConnectionInfo) -> object:
    """The JavaScript client takes times as ISO text alone."""
    identity = {"sourceIp": info.source_ip, "userAgent": info.user_agent}
    return {
        "connectedAt": _time(info.connected_at),
        "identity": identity,
        "lastActiveAt": _time(info.last_active_at),
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")


def _error(status: int, message: str) -> Response:
    """Its name is in a header, where both SDKs look. The body is JSON or nothing: one of them fails otherwise."""
    headers = {"x-amzn-ErrorType": ERRORS.get(status, "InternalServerErrorException")}
    body = msgspec.json.encode({"message": message}) if message else None
    return Response(body, status, headers, "application/json" if message else None)


def _is_loopback(scope: Scope) -> bool:
    peer = scope.get("client")
    if not peer:
        return True  # a socket in the file system, or a test
    try:
        return ip_address(peer[0]).is_loopback
    except ValueError:
        return bool(peer[0] == "testclient")
