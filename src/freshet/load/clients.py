"""Clients over WebSocket, with as little work as can be: a protocol each, no task, no timer.

A client is opened, says what its protocol wants, and is `ready` when it is subscribed. From then on it counts. It may
be opened again: what it has received, and where it stood in the log, it keeps.
"""

import asyncio
import re
import secrets
from abc import abstractmethod
from typing import ClassVar, cast
from urllib.parse import quote, urlsplit

import msgspec

from freshet.load.plan import LoadError, Plan
from freshet.load.tally import Sequences, Tally
from freshet.model.frame import Frame
from freshet.websocket.frames import CloseFrame, Decoder, MessageLimits, Opcode, PingFrame, encode
from freshet.websocket.handshake import HandshakeError, check_response, client_request

LIMITS = MessageLimits(frame=64 << 20, message=64 << 20)
UNKNOWN_CHANNEL = 102
RULE = 'A rule has to match it: [[channels]] match = "bench", publish = "client"; or name another with --channel.'
_wait = re.compile(rb"retry-after: *(\d+)", re.IGNORECASE).search
_offsets = re.compile(rb'"offset":(\d+)').findall
_status = re.compile(rb"HTTP/1\.[01] (\d+) ?([^\r]*)").match


class TurnedAway(Exception):
    """The server is busy and says so: 503, or 429. after: seconds."""

    def __init__(self, after: float) -> None:
        super().__init__(f"turned away for {after:g} s")
        self.after = after


def answered(head: bytes) -> Exception:
    """What an answer that is none means."""
    found = _status(head)
    status = int(found[1]) if found else 0
    if status in (429, 503):
        wait = _wait(head)
        return TurnedAway(float(wait[1]) if wait else 1.0)
    what = f"{status} {found[2].decode(errors='replace')}" if found else "no HTTP"
    hints = {
        401: "Give --token, or --secret to sign one for each client.",
        403: "The token may not, or the origin is refused: see the server's log.",
        404: "Is the URL the server's, with the prefix of its mount? Another protocol: --dialect.",
    }
    return LoadError(f"the server answered {what}", hints.get(status, ""))


class LoadClient(asyncio.Protocol):
    """What its protocol can do. acknowledges: it says when a client is subscribed. calls: methods, `rpc`."""

    acknowledges: ClassVar = True
    publishes: ClassVar = True
    has_channels: ClassVar = True
    calls: ClassVar = False
    recovers: ClassVar = False

    def __init__(self, plan: Plan, tally: Tally, number: int, channel: str) -> None:
        self.channel = channel
        self.number = plan.first + number
        self.sequences = Sequences()
        self.ready: asyncio.Future[None]
        self.transport: asyncio.Transport | None = None
        self.is_cut = False
        self._plan = plan
        self._tally = tally
        self._token = plan.token(number)
        self._is_ready = False
        self._head = b""

    @property
    def target(self) -> str:
        """Path and query, below the prefix of the URL."""
        raise NotImplementedError

    @abstractmethod
    def request(self) -> bytes: ...

    @abstractmethod
    def begun(self, rest: bytes) -> None:
        """The head of the answer is in `self._head`; `rest` came behind it."""

    @abstractmethod
    def came(self, data: bytes) -> None: ...

    def publish(self, data: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Without a word, as a network that goes away."""
        self.is_cut = True
        if self.transport is not None:
            self.transport.abort()

    # ------------------------------------------------------------------------------------------------ asyncio.Protocol

    def opening(self) -> None:
        """Before each connection."""
        self.ready = asyncio.get_running_loop().create_future()
        self._is_ready = self.is_cut = False
        self._head = b""
        self._has_begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request())

    def data_received(self, data: bytes) -> None:
        if self._has_begun:
            self.came(data)
            return
        self._head += data
        head, found, rest = self._head.partition(b"\r\n\r\n")
        if found:
            self._head = head + found
            self._has_begun = True
            self.begun(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_ready:
            self.failed(exc or LoadError("the server closed the connection before the client was subscribed"))
        elif not self.is_cut:
            self._tally.closed += 1

    # --------------------------------------------------------------------------------------------------- for protocols

    def subscribed(self) -> None:
        self._is_ready = True
        if not self.ready.done():
            self.ready.set_result(None)

    def failed(self, why: Exception) -> None:
        if not self.ready.done():
            self.ready.set_exception(why)
        self.close()

    def refused(self, what: str) -> None:
        """A publication was."""
        self._tally.refused += 1
        self._tally.reason = what

    def path(self) -> str:
        return urlsplit(self._plan.url).path.rstrip("/") + self.target


class WebSocketClient(LoadClient):
    """Any protocol over a WebSocket."""

    def opening(self) -> None:
        super().opening()
        self._decoder = Decoder(LIMITS, server=False)

    def request(self) -> bytes:
        head, self._key = client_request(urlsplit(self._plan.url).netloc, self.path())
        return head

    def begun(self, rest: bytes) -> None:
        try:
            check_response(self._head, self._key)
        except HandshakeError as error:
            refusal = answered(self._head)
            self.failed(LoadError(str(error)) if self._head.startswith(b"HTTP/1.1 101") else refusal)
            return
        self._head = b""
        self.opened()
        if rest:
            self.came(rest)

    def came(self, data: bytes) -> None:
        for event in self._decoder.feed(data):
            if isinstance(event, Frame):
                self.message(event.data)
            elif isinstance(event, PingFrame):
                self.send(event.data, Opcode.PONG)
            elif isinstance(event, CloseFrame):
                self._tally.reason = f"{event.code or 1005} {event.reason}".strip()
                if not self._is_ready:
                    self.failed(LoadError(f"the server closed the WebSocket: {self._tally.reason}"))

    def opened(self) -> None:
        """The WebSocket is open: what the client says first."""
        self.subscribed()

    def message(self, data: bytes) -> None:
        self._tally.take(self.sequences, data)

    def send(self, data: bytes, opcode: Opcode = Opcode.TEXT) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(encode(opcode, data, mask=secrets.token_bytes(4)))


class PlainClient(WebSocketClient):
    """A WebSocket without more: an echo, or what passes on what clients send. `{channel}` in its URL is filled in."""

    acknowledges = False
    has_channels = False

    @property
    def target(self) -> str:
        return ""

    def path(self) -> str:
        parts = urlsplit(self._plan.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return path.replace("{channel}", quote(self.channel, safe=""))

    def publish(self, data: bytes) -> None:
        self.send(data)


class ChannelClient(WebSocketClient):
    """The URL of a channel."""

    acknowledges = False

    @property
    def target(self) -> str:
        query = f"?token={quote(self._token)}" if self._token else ""
        return f"/channels/{quote(self.channel, safe='')}{query}"

    def publish(self, data: bytes) -> None:
        self.send(data)


class CentrifugeClient(WebSocketClient):
    """JSON. joins: whether it subscribes; a publisher need not. `rpc` sends a request instead of a publication."""

    calls = True
    recovers = True

    def __init__(self, plan: Plan, tally: Tally, number: int, channel: str, *, joins: bool = True) -> None:
        super().__init__(plan, tally, number, channel)
        self._joins = joins and plan.load != "rpc"
        self._keeps_position = plan.load == "recovery"
        self._epoch = ""
        self._offset = 0

    @property
    def target(self) -> str:
        return "/connection/websocket"

    def opened(self) -> None:
        lines = [{"id": 1, "connect": {"token": self._token, "name": "freshet bench"}}]
        if self._joins:
            place = {"recover": True, "epoch": self._epoch, "offset": self._offset} if self._epoch else {}
            lines.append({"id": 2, "subscribe": {"channel": self.channel, **place}})
        self.send(b"\n".join(map(msgspec.json.encode, lines)))

    def message(self, data: bytes) -> None:
        if data == b"{}":
            self.send(b"{}")
            return
        if not self._is_ready:
            for line in data.split(b"\n"):
                self._reply(line)
            return
        self._tally.take(self.sequences, data)
        if self._keeps_position and (offsets := _offsets(data)):
            self._offset = int(offsets[-1])
        if b'"error":' in data and data.startswith(b'{"id"'):
            error = msgspec.json.decode(data.partition(b"\n")[0]).get("error", {})
            self.refused(f"{error.get('code')} {error.get('message')}")

    def _reply(self, line: bytes) -> None:
        reply = msgspec.json.decode(line)
        if "error" in reply:
            error = reply["error"]
            what = "connect" if reply.get("id") == 1 else f"subscribe to {self.channel}"
            hint = RULE if error["code"] == UNKNOWN_CHANNEL else "See the server's log for the option."
            self.failed(LoadError(f"{what}: {error['message']} ({error['code']})", hint))
        elif reply.get("id") == (2 if self._joins else 1):
            if self._joins:
                self._entered(reply["subscribe"])
            self.subscribed()
            self._tally.take(self.sequences, line)
        elif "push" in reply:
            self._tally.take(self.sequences, line)

    def _entered(self, result: dict[str, object]) -> None:
        if self._epoch and not result.get("recovered"):
            self._tally.unrecovered += 1
        self._epoch = str(result.get("epoch", ""))
        self._offset = int(str(result.get("offset", 0)))

    def publish(self, data: bytes) -> None:
        if self._plan.load == "rpc":
            self.send(b'{"id":3,"rpc":{"method":%b,"data":%b}}' % (msgspec.json.encode(self._plan.method), data))
        else:
            self.send(b'{"id":3,"publish":{"channel":%b,"data":%b}}' % (msgspec.json.encode(self.channel), data))
