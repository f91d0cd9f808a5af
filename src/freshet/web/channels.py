"""`/channels/{channel}` over HTTP: an event stream, a page of history that may wait, and publishing."""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.dialects.base import Dialect, kind_of
from freshet.dialects.channel_url import ChannelEvents, ChannelPage
from freshet.errors import Disconnect
from freshet.model import Frame, Handshake, Kind
from freshet.node import Node
from freshet.policy import origin
from freshet.session import Session
from freshet.transports import stream
from freshet.transports.poll import read
from freshet.web.opening import cors, handshake_of, plain, raw

LONGEST_WAIT = 60.0  # seconds
PAGE = 100  # publications, unless the request says otherwise
STATUS = {3500: 401, 3501: 400, 3503: 403, 3507: 403, 4601: 401, 4602: 404, 4603: 403, 4607: 400, 4609: 401, 4612: 410}


class ChannelEndpoint:
    """All that HTTP can do with a channel, or with several at once as an event stream."""

    def __init__(self, node: Node) -> None:
        self._node = node

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
        patience = wait or self._node.timing.connect_timeout
        session = self._open(ChannelPage(channel, waits=wait > 0), request)

        def enough(frames: list[Frame]) -> bool:
            return not wait or len(frames) > 1 or b'"recovered":false' in frames[0].data

        told = await stream.collect(session, receive, patience, enough)
        if isinstance(told, Disconnect):
            return _refusal(told, allow)
        return _json(_paged([frame.data for frame in told], limit, "since" in request.query or wait > 0), allow)

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


class _Place(msgspec.Struct):
    epoch: str
    offset: int
    recovered: bool = True


class _Offset(msgspec.Struct):
    offset: int = 0


def _paged(frames: Sequence[bytes], limit: int, oldest_first: bool) -> bytes:
    """Where the reader stands after the page, and the page: the next `limit`, or the last if it did not say where."""
    place = msgspec.json.decode(frames[0], type=_Place)
    publications = frames[1:]
    publications = publications[:limit] if oldest_first else publications[max(0, len(publications) - limit) :]
    if publications:
        place.offset = msgspec.json.decode(publications[-1], type=_Offset).offset
    page = {"epoch": place.epoch, "offset": place.offset, "recovered": place.recovered}
    return msgspec.json.encode({**page, "publications": [msgspec.Raw(each) for each in publications]})


def _json(body: bytes, allow: Mapping[str, str]) -> Response:
    return Response(body, 200, allow, "application/json")


def _refusal(why: Disconnect, allow: Mapping[str, str]) -> Response:
    status = STATUS.get(why.code, 503 if why.reconnect else 403)
    return Response(msgspec.json.encode({"code": why.code, "message": why.reason}), status, allow, "application/json")
