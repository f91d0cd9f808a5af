"""What the clients of a protocol say, for load.c, which speaks whatever it is given.

The data of a publication is the same for all; what a protocol has around it is here. Where that holds the data's
length, the speech is made for one payload.
"""

from pathlib import Path
from typing import NamedTuple

from bench.subscribers import BEGIN, UPGRADE
from freshet.dialects.centrifuge.client_pb2 import Command
from freshet.dialects.centrifuge.protobuf import varint

TEXT, BINARY = 1, 2
CHANNEL = "bench"
TOKEN, NUMBER = "$TOKEN", "$NUMBER"  # where a client's own go


class Speech(NamedTuple):
    """See load.c. says, introduces: a message, and what is waited for. publish: before, after, between."""

    path: str
    publish: tuple[bytes, bytes, bytes]
    says: tuple[tuple[bytes, bytes], ...] = ()
    introduces: tuple[tuple[bytes, bytes], ...] = ()
    heartbeat: tuple[bytes, bytes] = (b"", b"")
    opcode: int = TEXT
    subprotocol: str = ""

    def write(self, file: Path) -> Path:
        """For load.c."""
        extra = f"Sec-WebSocket-Protocol: {self.subprotocol}\r\n" if self.subprotocol else ""
        lines = [
            _line("open", BEGIN % (self.path.encode(), UPGRADE % extra.encode())),
            f"opcode {self.opcode}",
            *(_line("say", *step) for step in self.says),
            *(_line("introduce", *step) for step in self.introduces),
            _line("publish", *self.publish),
        ]
        if self.heartbeat[0]:
            lines.append(_line("heartbeat", *self.heartbeat))
        file.write_text("\n".join(lines) + "\n")
        return file


def _line(word: str, *parts: bytes) -> str:
    return " ".join([word, *(part.hex() or "-" for part in parts)])


def centrifuge(place: str = "", answer: bytes = b'"id":2') -> Speech:
    """JSON, with a token. place: what a client that comes back adds to its subscription; answer: what it then gets."""
    connect = f'{{"id":1,"connect":{{"token":"{TOKEN}"}}}}'
    subscribe = f'{{"id":2,"subscribe":{{"channel":"{CHANNEL}"{place}}}}}'
    return Speech(
        "/connection/websocket",
        publish=(b'{"id":3,"publish":{"channel":"bench","data":', b"}}", b"\n"),
        says=((f"{connect}\n{subscribe}".encode(), answer),),
        introduces=((connect.encode(), b'"id":1'),),
        heartbeat=(b"{}", b"{}"),
    )


def with_channels(speech: Speech, count: int) -> Speech:
    """Each subscriber is, in the same message, subscribed to so many channels that nobody else has."""
    (message, answer), *rest = speech.says
    names = (f"{CHANNEL}:{NUMBER}:{each}" for each in range(count))
    more = (f'\n{{"id":{10 + each},"subscribe":{{"channel":"{name}"}}}}' for each, name in enumerate(names))
    last = f'"id":{9 + count}'.encode() if count else answer
    return speech._replace(says=((message + "".join(more).encode(), last), *rest))


def centrifuge_protobuf(payload: int) -> Speech:
    """Protobuf; anonymous, because a token's length would be part of the message."""
    connect = _message(Command(id=1, connect={}))
    whole = _message(Command(id=3, publish={"channel": CHANNEL, "data": b"~" * payload}))
    before, after = whole.split(b"~" * payload)
    return Speech(
        "/connection/websocket",
        publish=(before, after, b""),
        says=((connect + _message(Command(id=2, subscribe={"channel": CHANNEL})), b"\x08\x02"),),
        introduces=((connect, b"\x08\x01"),),
        heartbeat=(b"\x00", b"\x00"),
        opcode=BINARY,
        subprotocol="centrifuge-protobuf",
    )


def _message(command: Command) -> bytes:
    return varint(command.ByteSize()) + command.SerializeToString()


def plain(path: str = "/") -> Speech:
    """A WebSocket without more: what one sends, all get."""
    return Speech(path, publish=(b"", b"", b""))


SOCKETIO = Speech(
    "/socket.io/?EIO=4&transport=websocket",
    publish=(b'42["say",', b"]", b""),
    says=((b"40", b'40{"sid"'), (b'420["enter"]', b"430[true]")),
    introduces=((b"40", b'40{"sid"'),),
    heartbeat=(b"2", b"3"),
)


def socketio_channel() -> Speech:
    """Socket.IO, by the events that Freshet answers without an application."""
    return SOCKETIO._replace(
        publish=(b'42["publish","bench",', b"]", b""),
        says=(*SOCKETIO.says[:1], (b'420["subscribe","bench"]', b"430[")),
    )


def nats(payload: int) -> Speech:
    """The protocol of NATS, over its WebSocket listener."""
    connect = b'CONNECT {"verbose":false,"pedantic":false}\r\n'
    return Speech(
        "/",
        publish=(b"PUB bench %d\r\n" % payload, b"\r\n", b""),
        says=((connect + b"SUB bench 1\r\nPING\r\n", b"PONG"),),
        introduces=((connect + b"PING\r\n", b"PONG"),),
        heartbeat=(b"PING\r\n", b"PONG\r\n"),
        opcode=BINARY,
    )


def mqtt(payload: int) -> Speech:
    """MQTT 3.1.1, QoS 0."""
    connect = _packet(0x10, _string("MQTT") + b"\x04\x02\x00\x00" + _string(""))
    accepted = b"\x20\x02\x00\x00"
    subscribe = _packet(0x82, b"\x00\x01" + _string(CHANNEL) + b"\x00")
    publish = _packet(0x30, _string(CHANNEL) + b"~" * payload)
    return Speech(
        "/mqtt",
        publish=(publish.removesuffix(b"~" * payload), b"", b""),
        says=((connect, accepted), (subscribe, b"\x90\x03\x00\x01\x00")),
        introduces=((connect, accepted),),
        opcode=BINARY,
        subprotocol="mqtt",
    )


def _packet(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + varint(len(body)) + body  # MQTT 2.2.3: the remaining length is a varint of the same kind


def _string(text: str) -> bytes:
    return len(text).to_bytes(2) + text.encode()
