"""What the protocols' own suites ask of a server: echoes, acknowledgements, a second namespace, quick heartbeats.

`/socket.io/` is Socket.IO; `/engine.io/` is a bare Engine.IO session, on which every message comes back.
"""

from typing import Any

from starlette.types import Receive, Scope, Send

from freshet import Freshet
from freshet.config import parse
from freshet.endpoints.opening import Opening
from freshet.endpoints.socketio.endpoint import EngineEndpoint
from freshet.endpoints.socketio.engine import EngineSession
from freshet.endpoints.socketio.sessions import SocketSession
from freshet.errors import Disconnect
from freshet.model.frame import Frame, Handshake
from freshet.policy.limits import AddressLimits
from freshet.policy.origin import Origins
from freshet.runtime.rates import Rate

live = Freshet(
    config=parse(
        {
            "tokens": {"anonymous": True},
            "timing": {"ping_interval": 0.3, "pong_timeout": 0.2, "connect_timeout": 1},
            "limits": {"message_size": 1_000_000},
            "origins": ["*"],
        }
    ),
    environment={},
)
main, custom = live.namespace("/"), live.namespace("/custom")


@main.on_connect
@custom.on_connect
async def connected(session: SocketSession, auth: Any) -> None:
    await session.emit("auth", auth)


@main.on("message")
async def message(session: SocketSession, *arguments: Any) -> None:
    await session.emit("message-back", *arguments)


@main.on("message-with-ack")
async def message_with_ack(session: SocketSession, *arguments: Any) -> tuple[Any, ...]:
    return arguments


class Echo:
    """Every message comes back."""

    settled = True
    backlog_full = False

    def __init__(self, session: EngineSession, handshake: Handshake) -> None:
        self._session = session

    def receive(self, frame: Frame) -> None:
        self._session.outbox.push(frame)

    def alive(self) -> None:
        """Nobody asks."""

    def ended(self, why: Disconnect) -> None:
        """Nothing is kept."""


opening = Opening(
    Origins(["https://page.example"]), live._node.admission, AddressLimits(Rate(0, 0), lambda: 0.0), lambda: False
)
echo = EngineEndpoint(opening, live._dispatcher, Echo, "echo")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] in ("http", "websocket") and scope["path"].startswith("/engine.io"):
        await echo(scope, receive, send)
    else:
        await live(scope, receive, send)
