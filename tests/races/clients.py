"""Clients without a network that write down what they are told, each in its dialect."""

import json
from abc import ABC, abstractmethod
from itertools import count
from typing import Any, ClassVar

from freshet import Freshet
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.channel_url import ChannelUrl
from freshet.endpoints.socketio.endpoint import socketio
from freshet.endpoints.socketio.sessions import NamespaceSessions
from freshet.errors import Disconnect
from freshet.model.frame import Frame, Handshake
from freshet.session.session import Session

ALREADY, RESUBSCRIBES = 105, 2500  # already subscribed; from this code on, a client subscribes again


class Doors:
    """How clients reach an application: one way for each dialect."""

    def __init__(self, live: Freshet) -> None:
        self.dispatcher = live._dispatcher
        opening: Any = None  # it guards requests, and there are none
        self.socketio = socketio(opening, self.dispatcher, live._namespaces)


class RacingClient(ABC):
    """known: the channels in which it believes to be. unknown: those in which it believes not to be. got: the data of
    what was published in each channel, in the order in which it came. closed: the server ended it. for_good: by what an
    official client would stay away, or out of a channel.

    sees_joins: it is told when the server subscribes it.
    """

    sees_joins: ClassVar[bool] = True

    def __init__(self, doors: Doors) -> None:
        self.doors = doors
        self.known: set[str] = set()
        self.got: dict[str, list[Any]] = {}
        self.faults: list[str] = []
        self.for_good: list[str] = []
        self.connected = False
        self.closed = False
        self.gone = False

    @property
    @abstractmethod
    def session(self) -> Session | None:
        """Its session; None: it has none yet, or none any more."""

    @property
    def is_open(self) -> bool:
        session = self.session
        return session is not None and not session.ended and not session.outbox.closed

    @abstractmethod
    def connect(self) -> None: ...

    @abstractmethod
    def subscribe(self, channel: str) -> None: ...

    @abstractmethod
    def unsubscribe(self, channel: str) -> None: ...

    @abstractmethod
    def publish(self, channel: str, data: Any) -> None: ...

    @abstractmethod
    def call(self, method: str) -> None: ...

    @abstractmethod
    def leave(self) -> None:
        """Lose the connection."""

    @abstractmethod
    def read(self) -> None:
        """Take what waits for it."""

    def _published(self, channel: str, data: Any) -> None:
        self.got.setdefault(channel, []).append(data)


class Direct(RacingClient):
    """One whose transport carries one session."""

    def __init__(self, doors: Doors) -> None:
        super().__init__(doors)
        self._session: Session | None = None

    @property
    def session(self) -> Session | None:
        return self._session

    def leave(self) -> None:
        self.gone = True
        if self._session is not None:
            self._session.end(Disconnect.normal())

    def read(self) -> None:
        """What its transport does when it is woken."""
        session = self._session
        assert session is not None
        for frame in session.outbox.take():
            self._take(frame)
        if session.outbox.closed and not session.ended:
            self.closed = True
            if not session.outbox.closed.reconnect:
                self.for_good.append(str(session.outbox.closed))
            session.end(session.outbox.closed)

    @abstractmethod
    def _take(self, frame: Frame) -> None: ...


class CentrifugeClient(Direct):
    def __init__(self, doors: Doors) -> None:
        super().__init__(doors)
        self._ids = count(1)
        self._asked: dict[int, tuple[str, str]] = {}
        self._places: dict[str, int] = {}
        self.refused: list[tuple[str, int]] = []

    def connect(self) -> None:
        self._session = self.doors.dispatcher.open(Centrifuge(), Handshake("/"))
        self._session.outbox.attach(self.read)
        self._say("connect", {})

    def _say(self, method: str, request: dict[str, Any]) -> None:
        id = next(self._ids)
        self._asked[id] = method, request.get("channel", "")
        assert self._session is not None
        self._session.receive(Frame(json.dumps({"id": id, method: request}).encode()))

    def subscribe(self, channel: str) -> None:
        self._say("subscribe", {"channel": channel})

    def unsubscribe(self, channel: str) -> None:
        self._say("unsubscribe", {"channel": channel})

    def publish(self, channel: str, data: Any) -> None:
        self._say("publish", {"channel": channel, "data": data})

    def call(self, method: str) -> None:
        self._say("rpc", {"method": method})

    def ask(self, method: str, channel: str) -> None:
        self._say(method, {"channel": channel})

    def _take(self, frame: Frame) -> None:
        for line in frame.data.split(b"\n"):
            reply = json.loads(line)
            if not reply:
                assert self._session is not None
                self._session.receive(Frame(b"{}"))
            elif "push" in reply:
                self._pushed(reply["push"])
            else:
                self._replied(reply)

    def _replied(self, reply: dict[str, Any]) -> None:
        method, channel = self._asked.pop(reply["id"])
        if "error" in reply:
            code = reply["error"]["code"]
            self.refused.append((method, code))
            if method in ("connect", "subscribe") and code != ALREADY and not reply["error"].get("temporary"):
                self.for_good.append(f"{method}: {reply['error']}")
            if method == "connect":
                self.leave()  # to come again later
        elif method == "connect":
            self.connected = True
            for name, begun in reply["connect"].get("subs", {}).items():
                self._entered(name, begun)
        elif method == "subscribe":
            self._entered(channel, reply["subscribe"])
        elif method == "unsubscribe":
            self.known.discard(channel)

    def _pushed(self, push: dict[str, Any]) -> None:
        channel = push.get("channel", "")
        if "subscribe" in push:
            self._entered(channel, push["subscribe"])
        elif "unsubscribe" in push:
            if channel not in self.known:
                self.faults.append(f"the end of a subscription in {channel!r} that it has not")
            self.known.discard(channel)
            if push["unsubscribe"]["code"] < RESUBSCRIBES:
                self.for_good.append(f"{channel}: {push['unsubscribe']}")
        elif "pub" in push:
            self._came(channel, push["pub"])

    def _entered(self, channel: str, begun: dict[str, Any]) -> None:
        if channel in self.known:
            self.faults.append(f"a second subscription in {channel!r}")
        self.known.add(channel)
        self._places[channel] = begun.get("offset", 0)
        for publication in begun.get("publications", []):
            self._published(channel, publication.get("data"))

    def _came(self, channel: str, publication: dict[str, Any]) -> None:
        offset, expected = publication.get("offset", 0), self._places.get(channel, 0) + 1
        if channel not in self.known:
            self.faults.append(f"a publication in {channel!r}, where it is not")
        elif offset and offset != expected:
            self.faults.append(f"offset {offset} in {channel!r} instead of {expected}")
        self._places[channel] = offset
        self._published(channel, publication.get("data"))


class UrlClient(Direct):
    """A bare WebSocket on the URL of one channel: it connects and subscribes by that."""

    sees_joins = False  # it knows of its own channel alone, and of that only that it stays open

    def connect(self) -> None:
        self._session = self.doors.dispatcher.open(ChannelUrl("room:a"), Handshake("/channels/room:a"))
        self._session.outbox.attach(self.read)
        self._session.open()
        self.connected = True
        self.known = {"room:a"}

    def subscribe(self, channel: str) -> None:
        """It is."""

    def unsubscribe(self, channel: str) -> None:
        self.leave()

    def publish(self, channel: str, data: Any) -> None:
        assert self._session is not None
        self._session.receive(Frame(json.dumps(data).encode()))

    def call(self, method: str) -> None:
        """It cannot."""

    def _take(self, frame: Frame) -> None:
        if frame.data:
            self._published("room:a", json.loads(frame.data))


class SocketIOClient(RacingClient):
    """One that polls, on the main namespace. pid, sid: with which it can resume."""

    sees_joins = False

    def __init__(self, doors: Doors, pid: str = "") -> None:
        super().__init__(doors)
        self.pid = pid
        self.sid = ""
        self.resumed = bool(pid)
        self._engine = doors.socketio._open(Handshake("/socket.io/"))
        self._ids = count(1)
        self._asked: dict[int, tuple[str, str]] = {}

    @property
    def session(self) -> Session | None:
        messages = self._engine.messages
        assert isinstance(messages, NamespaceSessions)
        return messages._sessions.get("/")

    def connect(self) -> None:
        auth = {"pid": self.pid} if self.pid else {}
        self._engine.receive(Frame(b"40" + json.dumps(auth).encode()))

    def _emit(self, event: str, *arguments: Any) -> None:
        id = next(self._ids)
        self._asked[id] = event, arguments[0] if arguments else ""
        self._engine.receive(Frame(b"42%d%b" % (id, json.dumps([event, *arguments]).encode())))

    def subscribe(self, channel: str) -> None:
        self._emit("subscribe", channel)

    def unsubscribe(self, channel: str) -> None:
        self.known.discard(channel)  # whether it is done or not, if the connection is lost meanwhile
        self._emit("unsubscribe", channel)

    def publish(self, channel: str, data: Any) -> None:
        self._emit("publish", channel, data)

    def call(self, method: str) -> None:
        self._emit(method)

    def leave(self) -> None:
        self.gone = True
        self._engine.end(Disconnect.normal())

    def leave_namespace(self) -> None:
        self.gone = True
        self._engine.receive(Frame(b"41"))

    def read(self) -> None:
        for frame in self._engine.take_portion():
            for packet in frame.data.decode().split("\x1e"):
                self._take(packet)
        over = self._engine.ended or self._engine.outbox.closed  # with which its next poll is refused
        self.closed = self.closed or over is not None

    def _take(self, packet: str) -> None:
        kind, rest = packet[:2], packet[2:]
        if packet == "2":
            self._engine.receive(Frame(b"3"))
        elif kind == "40":
            answer = json.loads(rest)
            self.connected = True
            self.sid, pid = answer["sid"], answer.get("pid", "")
            self.resumed, self.pid = bool(self.pid) and pid == self.pid, pid
            if not self.resumed:
                self.known.clear()
        elif kind in ("41", "44"):
            self.closed = True
            self.for_good.append(packet)
        elif kind == "42":
            event, *arguments = json.loads(rest)
            if event == "unsubscribed":
                self.known.discard(arguments[0]["channel"])
            elif event == "message":
                self._published(arguments[0]["in"], arguments[0])
        elif kind == "43":
            id, _, values = rest.partition("[")
            method, channel = self._asked.pop(int(id))
            answer = json.loads(f"[{values}")
            if answer and isinstance(answer[0], dict) and "error" in answer[0]:
                return
            if method == "subscribe":
                self.known.add(channel)
            elif method == "unsubscribe":
                self.known.discard(channel)
