"""Which URL speaks which dialect."""

from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Scope

from freshet.commands.dispatch import Dispatcher
from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.centrifuge.protobuf import CentrifugeProtobuf
from freshet.dialects.channel_url import ChannelUrl
from freshet.endpoints.centrifuge import WebSocketEndpoint
from freshet.endpoints.channels import ChannelEndpoint, channel_of
from freshet.endpoints.opening import Opening
from freshet.endpoints.responses import plain
from freshet.endpoints.rooms import RoomEndpoint
from freshet.endpoints.streams import ENVELOPED, EmulationEndpoint, StreamEndpoint
from freshet.endpoints.tickets import TicketEndpoint
from freshet.model.frame import Handshake
from freshet.policy.authentication import Authentication
from freshet.transports import stream

UPGRADE = (
    "This is a WebSocket: connect to it with a client, such as npm centrifuge, at ws:// or wss://. "
    "A proxy has to pass on the headers Upgrade and Connection.\n"
)


class ChannelConvertor(Convertor[str]):
    """Any text: a channel's name may have slashes and, unlike what Starlette calls a path, line ends."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("freshet_channel", ChannelConvertor())


def routes(
    opening: Opening, dispatcher: Dispatcher, socketio: ASGIApp, authentication: Authentication
) -> list[BaseRoute]:
    """The URLs of clients, below whatever prefix they are mounted under."""
    longest = dispatcher.limits.message_size
    centrifuge, protobuf = Centrifuge(longest), CentrifugeProtobuf(longest)

    def websocket(scope: Scope, request: Handshake) -> Dialect:
        asked = protobuf.subprotocol in scope.get("subprotocols", ()) or b"format=protobuf" in scope["query_string"]
        return protobuf if asked else centrifuge

    def streamed(request: Handshake) -> tuple[Dialect, stream.Form]:
        binary = request.headers.get("content-type") == "application/octet-stream"
        return (protobuf, stream.MESSAGES) if binary else (centrifuge, stream.LINES)

    def channel(scope: Scope, request: Handshake) -> Dialect:
        return ChannelUrl(channel_of(scope, request))

    channels, channel_socket = ChannelEndpoint(opening, dispatcher), WebSocketEndpoint(opening, dispatcher, channel)
    return [
        WebSocketRoute("/connection/websocket", WebSocketEndpoint(opening, dispatcher, websocket)),
        Route("/connection/websocket", plain(426, UPGRADE, {"Upgrade": "websocket"}), methods=["GET"]),
        WebSocketRoute("/channels", channel_socket),
        WebSocketRoute("/channels/{channel:freshet_channel}", channel_socket),
        Route("/connection/sse", StreamEndpoint(opening, dispatcher, lambda request: (centrifuge, ENVELOPED))),
        Route("/connection/http_stream", StreamEndpoint(opening, dispatcher, streamed)),
        Route("/connection/ticket", TicketEndpoint(opening, authentication)),
        Route("/emulation", EmulationEndpoint(opening, dispatcher)),
        Route("/channels", channels),
        Route("/channels/{channel:freshet_channel}", channels),
        Route("/rooms/{channel:freshet_channel}", RoomEndpoint(opening, dispatcher)),
        # A client may leave out the slash: `addTrailingSlash: false`, and some proxies do.
        Route("/socket.io", socketio),
        WebSocketRoute("/socket.io", socketio),
        Mount("/socket.io", socketio),
    ]
