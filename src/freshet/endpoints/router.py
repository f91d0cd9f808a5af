"""Which URL speaks which dialect."""

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.routing import Mount, Route, Router, WebSocketRoute
from starlette.types import Receive, Scope, Send

from freshet.api.explorer import FILES, ExplorerFile
from freshet.api.http import ApiEndpoint
from freshet.api.openapi import Description
from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.centrifuge.protobuf import CentrifugeProtobuf
from freshet.dialects.channel_url import ChannelUrl
from freshet.endpoints.channels import ChannelEndpoint
from freshet.endpoints.opening import carry_websocket, handshake_of, refuse_websocket, turned_away
from freshet.endpoints.socketio.endpoint import EngineEndpoint, socketio
from freshet.endpoints.streams import EmulationEndpoint, StreamEndpoint
from freshet.node.node import Node
from freshet.ops.health import Health
from freshet.ops.metrics import MetricsEndpoint
from freshet.policy import origin
from freshet.transports import stream

Select = Callable[[Scope], Dialect]


class WebSocketEndpoint:
    """Opens a session over WebSocket. select: the dialect for a request."""

    def __init__(self, node: Node, select: Select) -> None:
        self._node = node
        self._select = select

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if not origin.allowed(headers.get("origin"), headers.get("host"), self._node.config.origins):
            await refuse_websocket(403, origin.REFUSAL, scope, receive, send)
            return
        if await turned_away(self._node, scope, receive, send):
            return
        dialect = self._select(scope)
        session = self._node.open(dialect, handshake_of(scope, headers))
        subprotocol = dialect.subprotocol if dialect.subprotocol in scope.get("subprotocols", ()) else None
        await carry_websocket(session, subprotocol, scope, receive, send)


def router(node: Node, metrics_key: str | None = None) -> Router:
    """All URLs of one node, below whatever prefix it is mounted under. metrics_key: who has it may read `/metrics`."""
    centrifuge, protobuf = Centrifuge(), CentrifugeProtobuf()

    def websocket(scope: Scope) -> Dialect:
        asked = protobuf.subprotocol in scope.get("subprotocols", ()) or b"format=protobuf" in scope["query_string"]
        return protobuf if asked else centrifuge

    def streamed(headers: Headers) -> tuple[Dialect, stream.Form]:
        binary = headers.get("content-type") == "application/octet-stream"
        return (protobuf, stream.MESSAGES) if binary else (centrifuge, stream.LINES)

    channels, health = ChannelEndpoint(node), Health(node)
    return Router(
        routes=[
            WebSocketRoute("/connection/websocket", WebSocketEndpoint(node, websocket)),
            WebSocketRoute(
                "/channels/{channel:path}",
                WebSocketEndpoint(node, lambda scope: ChannelUrl(scope["path_params"]["channel"])),
            ),
            Route("/connection/sse", StreamEndpoint(node, lambda headers: (centrifuge, stream.ENVELOPED))),
            Route("/connection/http_stream", StreamEndpoint(node, streamed)),
            Route("/emulation", EmulationEndpoint(node)),
            Route("/channels", channels),
            Route("/channels/{channel:path}", channels),
            Mount("/socket.io", EngineEndpoint(node, socketio(node))),
            Route("/health/live", health.live, methods=["GET"]),
            Route("/health/ready", health.ready, methods=["GET"]),
            Route("/metrics", MetricsEndpoint(node, metrics_key).__call__, methods=["GET"]),
            *(Route(f"/api/{name}", ExplorerFile(path), methods=["GET"]) for name, path in FILES.items()),
            Route("/api/openapi.json", Description(node), methods=["GET"]),
            Route("/api/{method:path}", ApiEndpoint(node)),
        ]
    )
