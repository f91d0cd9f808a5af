"""The protocols that `freshet bench` speaks, by name."""

import msgspec

from freshet.load.clients import CentrifugeClient, ChannelClient, LoadClient, PlainClient, WebSocketClient
from freshet.load.http_clients import EventStreamClient, PollClient
from freshet.load.plan import LoadError


class SocketIoClient(WebSocketClient):
    """Socket.IO, by the events that Freshet answers itself."""

    @property
    def target(self) -> str:
        return "/socket.io/?EIO=4&transport=websocket"

    def opened(self) -> None:
        auth = msgspec.json.encode({"token": self._token}) if self._token else b""
        self.send(b"40" + auth)

    def message(self, data: bytes) -> None:
        if data == b"2":
            self.send(b"3")
        elif self._is_ready:
            self._tally.take(self.sequences, data)
        elif data.startswith(b"44"):
            self.failed(LoadError(f"connect: {data[2:].decode(errors='replace')}", "Give --token or --secret."))
        elif data.startswith(b"40"):
            self.send(b'420["subscribe",%b]' % msgspec.json.encode(self.channel))
        elif data.startswith(b"430"):
            if b'"error"' in data:
                self.failed(LoadError(f"subscribe to {self.channel}: {data[3:].decode(errors='replace')}"))
            self.subscribed()

    def publish(self, data: bytes) -> None:
        self.send(b'42["publish",%b,%b]' % (msgspec.json.encode(self.channel), data))


DIALECTS: dict[str, type[LoadClient]] = {
    "centrifuge": CentrifugeClient,
    "channel": ChannelClient,
    "socketio": SocketIoClient,
    "sse": EventStreamClient,
    "poll": PollClient,
    "websocket": PlainClient,
}
