"""`/rooms/{channel}` over HTTP: a request that the room answers; see `Room.on_request`."""

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.commands.dispatch import Dispatcher
from freshet.dialects.room_url import RoomUrl
from freshet.endpoints.channels import channel_of, refusal
from freshet.endpoints.opening import Opening
from freshet.endpoints.responses import TOO_BIG, at_most, cors, plain
from freshet.errors import Disconnect
from freshet.model.http import HttpRequest, response_of, to_bytes
from freshet.transports import stream

SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})  # headers that no room needs to see
FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})  # those that are not a room's to say


class RoomEndpoint:
    """Who may subscribe to a room's channel may ask the room."""

    def __init__(self, opening: Opening, dispatcher: Dispatcher) -> None:
        self._opening = opening
        self._dispatcher = dispatcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await self._opening.open(scope, receive, send)
        if request is None:
            return
        allow, bound = cors(request), self._dispatcher.limits.message
        body = await self._dispatcher.read_body(receive, bound.size)
        if body is None:
            self._dispatcher.too_big("/rooms", bound)
            await plain(TOO_BIG, at_most(bound), allow)(scope, receive, send)
            return
        headers = {name: value for name, value in request.headers.items() if name not in SECRET}
        query = {name: value for name, value in request.query.items() if name not in ("token", "ticket", "channel")}
        asked = HttpRequest(scope["method"], query, headers, body)
        session = self._dispatcher.open(RoomUrl(channel_of(scope, request), to_bytes(asked)), request)
        session.open()
        timeout = self._dispatcher.timing.connect_timeout + self._dispatcher.timing.hook_timeout
        frames = await stream.collect(session, receive, timeout, bool)
        if isinstance(frames, Disconnect):
            await refusal(frames, allow)(scope, receive, send)
            return
        answer = response_of(frames[0].data)
        own = {name: value for name, value in answer.headers.items() if name.lower() not in FRAMING}
        await Response(answer.body, answer.status, {**allow, **own})(scope, receive, send)
