"""The WebSocket APIs of AWS API Gateway, as their clients see them: messages as they are, both ways, no envelope.

What a message is for is decided by its content, where it is read: see `endpoints.gateway`.
Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-overview.html
"""

import msgspec

from freshet.dialects.base import HEARTBEAT, Dialect
from freshet.model.commands import Command
from freshet.model.events import Event, Heartbeat, Published, Refused
from freshet.model.frame import Frame
from freshet.model.log import Kind


class ClientMessage(Command, frozen=True):
    """What a client sent: text in UTF-8, or bytes."""

    data: bytes
    binary: bool = False
    id: int = 1  # so that it is answered when it is refused


class Posted(Event, frozen=True):
    """What the application sends to one client."""

    data: bytes
    binary: bool = False


class GatewayMessages(Dialect):
    """Every frame is a message. Publications of channels that the client is in go out without an envelope too."""

    __slots__ = ()
    name = "gateway"
    answers_heartbeat = True
    replays_in_reply = False

    def receive(self, frame: Frame) -> list[Command]:
        return [ClientMessage(frame.data, frame.binary)]

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Posted:
            return Frame(event.data, binary=event.binary)
        if type(event) is Published:
            return Frame(event.publication.data, binary=event.publication.kind is Kind.BYTES)
        if type(event) is Refused:
            return Frame(msgspec.json.encode({"message": event.message}))
        if type(event) is Heartbeat:
            return HEARTBEAT
        return None
