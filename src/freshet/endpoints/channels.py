"""`/channels/{channel}` over HTTP: an event stream, a page of history that may wait, and publishing."""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.dialects.base import Dialect, kind_of
from freshet.dialects.channel_url import ChannelEvents, ChannelPage, Page
from freshet.endpoints.opening import cors, handshake_of, plain, raw
from freshet.endpoints.socketio.polling import read
from freshet.errors import Disconnect
from freshet.model.frame import Frame, Handshake
from freshet.model.log import Kind
from freshet.node.node import Node
from freshet.policy import origin
from freshet.session.session import Session
from freshet.transports import stream

LONGEST_WAIT = 60.0  # seconds
PAGE = 100  # publications, unless the request says otherwise
STATUS = {3500: 401, 3501: 400, 3503: 403, 3507: 403, 4601: 401, 4602: 404, 4603: 403, 4607: 400, 4609: 401, 4612: 410}


class ChannelEndpoint:
    """All that HTTP can do with a channel, or with several at once as an event stream."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if not origin.allowed(headers.get("origin"), headers.get("host"), self._node.config.origins):
            await plain(403, origin.REFUSAL)(scope, receive, send)
            return
        allow = cors(headers)
        request = handshake_of(scope, headers)
        answer: Response | None
        match scope["method"], "text/event-stream" in headers.get("accept", ""):
            case "OPTIONS", _:
                answer = Response(None, 204, allow)
            case "GET", True:
                answer = await self._stream(scope, request, allow, receive, send)
            case "GET", False:
                answer = await self._page(scope["path_params"].get("channel", ""), request, allow, receive)
            case "POST", _:
                answer = await self._publish(scope["path_params"].get("channel", ""), request, allow, receive)
            case _:
                answer = plain(405, "Expected GET or POST.\n", {**allow, "Allow": "GET, POST, OPTIONS"})
        if answer is not None:
            await answer(scope, receive, send)

    async def _stream(
        self, scope: Scope, request: Handshake, allow: Mapping[str, str], receive: Receive, send: Send
    ) -> Response | None:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        channels = [*filter(None, [scope["path_params"].get("channel", "")]), *query.get("channel", [])]
        if not 0 < len(channels) <= self._node.limits.channels_per_client:
            return plain(400, f"channel: expected 1 to {self._node.limits.channels_per_client} names.\n", allow)
        if wait := self._node.admits():
            # An EventSource never comes back from an error of HTTP; from the end of a stream it does, after `retry`.
            retry = f"retry: {wait * 1000}\n\n"
            return Response(retry, 200, {**allow, "Retry-After": str(wait)}, "text/event-stream")
        session = self._open(ChannelEvents(channels), request)
        why = await stream.converse(session, stream.EVENTS, raw(allow), receive, send)
        return _refusal(why, allow) if why is not None else None

    def _open(self, dialect: Dialect, request: Handshake) -> Session:
        session = self._node.open(dialect, request)
        session.open()
        return session

    async def _page(self, channel: str, request: Handshake, allow: Mapping[str, str], receive: Receive) -> Response:
        try:
            wait = min(_number(request.query, "wait", 0), LONGEST_WAIT)
            limit = int(_number(request.query, "limit", PAGE))
        except ValueError as error:
            return plain(400, f"{error}\n", allow)
        if wait and self._waiting >= self._node.limits.waiting_requests:
            return plain(503, "Too many requests are waiting: try again.\n", {**allow, "Retry-After": "5"})
        patience = wait or self._node.timing.connect_timeout
        session = self._open(ChannelPage(channel, limit=limit, waits=wait > 0), request)

        def enough(frames: list[Frame]) -> bool:
            return not wait or len(frames) > 1 or not _empty(frames[0])

        self._waiting += wait > 0
        try:
            told = await stream.collect(session, receive, patience, enough)
        finally:
            self._waiting -= wait > 0
        if isinstance(told, Disconnect):
            return _refusal(told, allow)
        first, *live = told
        return _json(_filled(first, live[:limit]) if live and _empty(first) else first.data, allow)

    async def _publish(self, channel: str, request: Handshake, allow: Mapping[str, str], receive: Receive) -> Response:
        limit = self._node.limits.message_size
        body = await read(receive, limit)
        if body is None:
            return plain(413, f"At most {limit} bytes.\n", allow)
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        frame = Frame(body, binary=kind == "application/octet-stream")
        if kind == "application/json" and kind_of(body)[0] is not Kind.JSON:
            return plain(400, "The body is not JSON.\n", allow)
        session = self._open(ChannelPage(channel, frame), request)
        told = await stream.collect(session, receive, self._node.timing.connect_timeout, bool)
        return _refusal(told, allow) if isinstance(told, Disconnect) else _json(told[0].data, allow)


def _number(query: Mapping[str, str], name: str, default: float) -> float:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.replace(".", "", 1).isdecimal() and len(text) < 10):
        raise ValueError(f"{name}: expected a number, got {text[:40]!r}")
    return float(text)


class _Offset(msgspec.Struct):
    offset: int = 0


def _empty(page: Frame) -> bool:
    """Whether a reader may wait for more: it is told at once what it missed, and that it missed what is lost."""
    read = msgspec.json.decode(page.data, type=Page)
    return read.recovered and not read.publications


def _filled(page: Frame, live: Sequence[Frame]) -> bytes:
    """An empty page with what came while its reader waited."""
    read = msgspec.json.decode(page.data, type=Page)
    read.publications = [msgspec.Raw(frame.data) for frame in live]
    read.offset = msgspec.json.decode(live[-1].data, type=_Offset).offset if live else read.offset
    return msgspec.json.encode(read)


def _json(body: bytes, allow: Mapping[str, str]) -> Response:
    return Response(body, 200, allow, "application/json")


def _refusal(why: Disconnect, allow: Mapping[str, str]) -> Response:
    status = STATUS.get(why.code, 503 if why.reconnect else 403)
    return Response(msgspec.json.encode({"code": why.code, "message": why.reason}), status, allow, "application/json")
