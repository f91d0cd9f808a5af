"""What `tail` and `top` have in common: a WebSocket that speaks the Centrifugal protocol, and comes back."""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import typer
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from freshet.cli.caller import NO_HTTP, unreachable
from freshet.cli.console import fail
from freshet.cli.terminal import err

TIMEOUT = 10.0  # seconds, for the server's answers
LONGEST_PAUSE = 10.0  # seconds between two attempts
MESSAGE = 16 * 1024 * 1024  # bytes

CLIENTS = "connection/websocket"
ELSEWHERE = (403, 404)  # how servers answer a WebSocket for a path that they do not know
SAID = 300  # characters of an answer that are shown

T = TypeVar("T")


def endpoint(url: str, path: str) -> str:
    """The URL of a WebSocket below the one of a server."""
    parts = urlsplit(url)
    schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    if parts.scheme not in schemes or not parts.hostname:
        raise typer.BadParameter(f"{url!r}: expected http://HOST[:PORT][/PREFIX]", param_hint="--url")
    prefix = parts.path.rstrip("/").removesuffix(f"/{CLIENTS}")  # also the URL that `freshet serve` shows for clients
    return f"{schemes[parts.scheme]}://{parts.netloc}{prefix}/{path}"


class Rejected(Exception):
    """A command was refused."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


class Wire:
    """One connection. again: it follows one that was lost. established: the session has begun.

    pushes: what came and was not asked for.
    """

    def __init__(self, socket: ClientConnection, *, again: bool) -> None:
        self.again = again
        self.pushes: deque[dict[str, Any]] = deque()
        self.established = False
        self._socket = socket
        self._replies: dict[int, dict[str, Any]] = {}
        self._ids = count(1)

    def ask(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """Send a command and wait for its reply; what comes before it is kept. Raises `Rejected`."""
        id = next(self._ids)
        self._socket.send(json.dumps({"id": id, method: request}))
        until = time.monotonic() + TIMEOUT
        while id not in self._replies:
            self.read(max(0.0, until - time.monotonic()))
        reply = self._replies.pop(id)
        if "error" in reply:
            raise Rejected(reply["error"]["code"], reply["error"]["message"])
        result: dict[str, Any] = reply[method]
        return result

    def next(self, timeout: float | None = None) -> dict[str, Any] | None:
        """What is pushed next; None: nothing was, within so many seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self.pushes:
            try:
                self.read(None if until is None else max(0.0, until - time.monotonic()))
            except TimeoutError:
                return None
        return self.pushes.popleft()

    def read(self, timeout: float | None) -> None:
        for line in str(self._socket.recv(timeout)).split("\n"):
            reply = json.loads(line)
            if not reply:
                self._socket.send("{}")  # a ping, and its pong
            elif "push" in reply:
                self.pushes.append(reply["push"])
            else:
                self._replies[reply["id"]] = reply


def sessions(url: str, run: Callable[[Wire], Iterator[T]], hint: str) -> Iterator[T]:
    """What `run` yields on one connection after the other, for ever.

    hint: what to do when the server does not want this client. Ends the command when there is no sense in reconnecting.
    """
    pause, been_there = 0.0, False
    while True:
        wire = None
        try:
            with connect(url, open_timeout=TIMEOUT, max_size=MESSAGE, proxy=None, ping_interval=None) as socket:
                wire = Wire(socket, again=been_there)
                yield from run(wire)
        except ConnectionClosed as why:
            _closed(why, hint)
        except (OSError, InvalidHandshake, WebSocketException) as error:
            if not been_there and not (wire and wire.established):
                _not_there(url, error)
        if wire is not None and wire.established:
            pause, been_there = 0.0, True
        pause = min(LONGEST_PAUSE, max(0.2, pause * 2))
        err.print(f"[yellow]connection lost[/yellow], reconnecting in {pause:g} s", highlight=False)
        time.sleep(pause)


def _not_there(url: str, error: Exception) -> NoReturn:
    """What the server that answered there said; or that none did."""
    if not isinstance(error, InvalidStatus):
        why, hint = NO_HTTP if isinstance(error, InvalidMessage) else unreachable(error)
        fail(f"{url}: {why}", hint, 1)
    response = error.response
    said = (response.body or b"").decode(errors="replace").strip()
    says = f"{response.status_code} {response.reason_phrase}" + (f": {said}" if 0 < len(said) < SAID else "")
    if "Freshet has nothing at this path" in said:
        hint = "The path in --url is the prefix under which an application mounts Freshet. Without one, leave it out."
    elif response.status_code in ELSEWHERE and "admin page" not in said and "see the option" not in said:
        hint = "Mounted in an application, it is below a prefix: --url http://HOST:PORT/PREFIX."
    else:
        hint = ""
    fail(f"{url}: {says}", hint, 1)


def _closed(why: ConnectionClosed, hint: str) -> None:
    code = why.rcvd.code if why.rcvd else 1006
    if 3500 <= code < 4000 or 4500 <= code < 5000:
        fail(f"the server disconnected us: {code} {why.rcvd.reason if why.rcvd else ''}", hint, 1)
