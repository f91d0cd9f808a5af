"""A room is a URL: one request and its response, which is the room's."""

from freshet.dialects.base import Dialect, refuse
from freshet.errors import Disconnect
from freshet.model.commands import AskRoom, Command, Connect
from freshet.model.events import Answer, Event, Refused
from freshet.model.frame import Frame, Handshake


class RoomUrl(Dialect):
    """channel: of the room. request: for it. Its one frame holds the answer, as rooms have it."""

    __slots__ = ("channel", "request")
    name = "room_url"
    answers_heartbeat = False
    has_presence = False

    def __init__(self, channel: str, request: bytes) -> None:
        self.channel = channel
        self.request = request

    def opened(self, request: Handshake) -> list[Command]:
        return [Connect(id=1, token=request.token, only=(self.channel,)), AskRoom(self.channel, self.request, id=2)]

    def receive(self, frame: Frame) -> list[Command]:
        raise Disconnect.bad_request("a request holds one command")

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Answer:
            return Frame(event.data, binary=True)
        if type(event) is Refused:
            refuse(event)
        return None
