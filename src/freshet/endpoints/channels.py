"""`/channels/{channel}` over HTTP: an event stream, a page of history that may wait, and publishing."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from http import HTTPStatus

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.commands.dispatch import Dispatcher
from freshet.dialects.base import Dialect, kind_of
from freshet.dialects.channel_url import RETRY, ChannelEvents, ChannelPage, end_of_stream
from freshet.endpoints.opening import Opening
from freshet.endpoints.responses import TOO_BIG, at_most, cors, plain, raw
from freshet.errors import Disconnect
from freshet.model.frame import Frame, Handshake
from freshet.model.json_text import TOO_DEEP
from freshet.model.log import Kind
from freshet.model.query import fields_of
from freshet.policy.limits import Waiting
from freshet.session.session import Session
from freshet.transports import stream
from freshet.transports.stream import AcceptedStream

EVENT_STREAM = "text/event-stream"
LONGEST_WAIT = 60.0  # seconds
PAGE = 100  # publications, unless the request says otherwise
STATUS = {
    3500: 401,
    3501: 400,
    3503: 403,
    3504: 429,
    3507: 403,
    4601: 401,
    4602: 404,
    4603: 403,
    4604: 404,
    4606: 413,
    4607: 400,
    4609: 401,
    4111: 429,
    4612: 410,
    4620: 409,
}


def channel_of(scope: Scope, request: Handshake) -> str:
    """The one that the path names or, for a name that a path does not carry to here, `?channel=`; empty: neither."""
    name: str = scope["path_params"].get("channel", "")
    return name or request.query.get("channel", "")


class ChannelEndpoint:
    """All that HTTP can do with a channel, or with several at once as an event stream."""

    def __init__(self, opening: Opening, dispatcher: Dispatcher) -> None:
        self._opening = opening
        self._dispatcher = dispatcher
        self._limits = dispatcher.limits
        self._waiting = Waiting(self._limits.waiting_requests, self._limits.waiting_per_address, dispatcher.counts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self.reply(scope, receive)
        if isinstance(answer, Response):
            await answer(scope, receive, send)
        else:
            await stream.carry_stream(answer, scope, receive, send)

    async def reply(self, scope: Scope, receive: Receive) -> Response | AcceptedStream:
        """What becomes of a request, whoever carries it."""
        streams = _streams(scope)
        request = self._opening.examine(scope, admit=False, refuse=_retry if streams else plain)
        if isinstance(request, Response):
            return request
        return self._stream(scope, request) if streams else await self._answer(scope, request, receive)

    async def _answer(self, scope: Scope, request: Handshake, receive: Receive) -> Response:
        channel, allow = channel_of(scope, request), cors(request)
        match scope["method"]:
            case "GET":
                return await self._page(channel, scope, request, allow, receive)
            case "POST":
                return await self._publish(channel, scope, request, allow, receive)
            case _:
                return plain(405, "Expected GET or POST.\n", {**allow, "Allow": "GET, POST, OPTIONS"})

    def _open(self, dialect: Dialect, request: Handshake) -> Session:
        session = self._dispatcher.open(dialect, request)
        session.open()
        return session

    def _stream(self, scope: Scope, request: Handshake) -> Response | AcceptedStream:
        allow = cors(request)
        fields = fields_of(scope["query_string"].decode("latin-1"))
        named = [value for name, value in fields if name == "channel" and value]
        channels = [*filter(None, [scope["path_params"].get("channel", "")]), *named]
        if not 0 < len(channels) <= self._limits.channels_per_client:
            most = self._limits.channels_per_client
            return plain(400, f"channel: expected 1 to {most} names, see limits.channels_per_client.\n", allow)
        if (turned_away := self._opening.refusal(request, scope, refuse=_retry)) is not None:
            return turned_away
        session = self._open(ChannelEvents(channels), request)
        refuse = partial(_stream_refusal, allow, has_ticket=bool(request.query.get("ticket")))
        return AcceptedStream(session, stream.EVENTS, raw(allow), refuse)

    async def _page(
        self,
        channel: str,
        scope: Scope,
        request: Handshake,
        allow: Mapping[str, str],
        receive: Receive,
    ) -> Response:
        try:
            wait = min(_number(request.query, "wait", 0), LONGEST_WAIT)
            limit = min(int(_number(request.query, "limit", PAGE)), self._limits.history_page)
        except ValueError as error:
            return plain(400, f"{error}\n", allow)
        if wait and (status := self._waiting.refusal(request.client)):
            return plain(status, "Too many requests are waiting: try again.\n", {**allow, "Retry-After": "5"})
        if (turned_away := self._opening.refusal(request, scope, resumes=_resumes(request))) is not None:
            return turned_away
        timeout = wait or self._dispatcher.timing.connect_timeout
        reader = ChannelPage(channel, limit=limit, size=self._limits.page_size, waits=wait > 0)
        session = self._open(reader, request)
        with self._waiting.one(request.client) if wait else nullcontext():
            frames = await stream.collect(
                session,
                receive,
                timeout,
                bool,
                begun=lambda: reader.page is not None,
                begins_within=self._dispatcher.timing.connect_timeout,
            )
        if wait and (page := reader.page) is not None and page.is_empty:
            return _json(page.filled(frames[:limit] if isinstance(frames, list) else []), allow)
        return refusal(frames, allow) if isinstance(frames, Disconnect) else _json(frames[0].data, allow)

    async def _publish(
        self,
        channel: str,
        scope: Scope,
        request: Handshake,
        allow: Mapping[str, str],
        receive: Receive,
    ) -> Response:
        if (turned_away := self._opening.refusal(request, scope)) is not None:
            return turned_away
        bound = self._limits.message
        body = await self._dispatcher.read_body(receive, bound.size)
        if body is None:
            self._dispatcher.too_big("/channels", bound)
            return plain(TOO_BIG, at_most(bound), allow)
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        frame = Frame(body, binary=kind == "application/octet-stream")
        if kind == "application/json" and (why := _why_no_json(body)):
            return plain(400, f"{why}.\n", allow)
        session = self._open(ChannelPage(channel, frame), request)
        frames = await stream.collect(session, receive, self._dispatcher.timing.connect_timeout, bool)
        return refusal(frames, allow) if isinstance(frames, Disconnect) else _json(frames[0].data, allow)


def _streams(scope: Scope) -> bool:
    """Whether a request is for an event stream."""
    accepts = any(name == b"accept" and b"text/event-stream" in value for name, value in scope["headers"])
    return accepts and scope["method"] == "GET"


def _stream_refusal(allow: Mapping[str, str], why: Disconnect, *, has_ticket: bool) -> Response:
    """The response for a stream that ended before it began."""
    if has_ticket and why.code == Disconnect.invalid_token().code:
        # An EventSource comes back with the URL that it has, whose ticket is used. HTML, 9.2.1: "Clients can be told to
        # stop reconnecting using the HTTP 204 No Content response code": its page opens one with another.
        return Response(None, 204, allow)
    if why.reconnect:
        # As above: it is to come back, with an empty stream; why, it is told as at the end of any other.
        return Response(b"retry: %d\n%b" % (RETRY, end_of_stream(why.code, why.reason)), 200, allow, EVENT_STREAM)
    return refusal(why, allow)


def _why_no_json(body: bytes) -> str:
    try:
        return "" if kind_of(body)[0] is Kind.JSON else "The body is not JSON"
    except RecursionError:
        return TOO_DEEP


def _number(query: Mapping[str, str], name: str, default: float) -> float:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.replace(".", "", 1).isdecimal() and len(text) < 10):
        raise ValueError(f"{name}: expected a number, got {text[:40]!r}")
    return float(text)


def _retry(status: int, text: str, headers: Mapping[str, str]) -> Response:
    """An EventSource never reconnects after an error of HTTP; after the end of a stream it does, by `retry`.

    No empty line is behind it: that would be the end of an event, which some clients pass on without data.
    """
    if "Retry-After" not in headers:
        return plain(status, text, headers)
    return Response(f"retry: {int(headers['Retry-After']) * 1000}\n", 200, headers, EVENT_STREAM)


def _resumes(request: Handshake) -> bool:
    """Whether a poll goes on where one before it stopped: its client was let in then."""
    return bool(request.query.get("since") or request.headers.get("last-event-id"))


def _json(body: bytes, allow: Mapping[str, str]) -> Response:
    return Response(body, 200, allow, "application/json")


def refusal(why: Disconnect, allow: Mapping[str, str]) -> Response:
    """The response for a session that ended before it began."""
    status = STATUS.get(why.code, 503 if why.reconnect else 403)
    headers = {**allow, "Retry-After": "1"} if status == HTTPStatus.TOO_MANY_REQUESTS else allow
    return Response(msgspec.json.encode({"code": why.code, "message": why.reason}), status, headers, "application/json")
