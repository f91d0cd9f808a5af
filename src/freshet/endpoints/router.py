"""Which URL speaks which dialect."""

from collections.abc import Callable

from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Scope

from freshet.commands.dispatch import Dispatcher
from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.centrifuge.protobuf import CentrifugeProtobuf
from freshet.dialects.channel_url import ChannelUrl
from freshet.endpoints.centrifuge import WebSocketEndpoint
from freshet.endpoints.channels import ChannelEndpoint
from freshet.endpoints.opening import Opening
from freshet.endpoints.streams import EmulationEndpoint, StreamEndpoint
from freshet.model.frame import Handshake
from freshet.transports import stream

StreamDialect = Callable[[Handshake], tuple[Dialect, stream.Form]]


def routes(opening: Opening, dispatcher: Dispatcher, socketio: ASGIApp) -> list[BaseRoute]:
    """The URLs of clients, below whatever prefix they are mounted under."""
    centrifuge, protobuf = Centrifuge(), CentrifugeProtobuf()

    def websocket(scope: Scope) -> Dialect:
        asked = protobuf.subprotocol in scope.get("subprotocols", ()) or b"format=protobuf" in scope["query_string"]
        return protobuf if asked else centrifuge

    def streamed(request: Handshake) -> tuple[Dialect, stream.Form]:
        binary = request.headers.get("content-type") == "application/octet-stream"
        return (protobuf, stream.MESSAGES) if binary else (centrifuge, stream.LINES)

    def channel(scope: Scope) -> Dialect:
        return ChannelUrl(scope["path_params"]["channel"])

    channels = ChannelEndpoint(opening, dispatcher)
    return [
        WebSocketRoute("/connection/websocket", WebSocketEndpoint(opening, dispatcher, websocket)),
        WebSocketRoute("/channels/{channel:path}", WebSocketEndpoint(opening, dispatcher, channel)),
        Route("/connection/sse", StreamEndpoint(opening, dispatcher, lambda request: (centrifuge, stream.ENVELOPED))),
        Route("/connection/http_stream", StreamEndpoint(opening, dispatcher, streamed)),
        Route("/emulation", EmulationEndpoint(opening, dispatcher)),
        Route("/channels", channels),
        Route("/channels/{channel:path}", channels),
        Mount("/socket.io", socketio),
    ]
