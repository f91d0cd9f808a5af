"""One connection to one NATS server: the client of `nats-py`, fitted to what an engine needs of it.

From the library come the handshake, the login, TLS, the parser, the writing with its flow control, and the servers of
a cluster that a server names. Four things are different here:

- The library has a task and a queue (3.7 KiB) for each subscription, which an engine with a subscription per channel
  cannot afford. So what its parser calls for each message hands it on at once.
- The library writes the PING of a flush ahead of what waits to be written, so that the PONG confirms nothing. Here a
  PING waits in its turn, one for all that was sent in a turn of the event loop.
- Its reconnecting sends later what waited when the connection was lost, though the caller was told that it failed; and
  it ends for good at an error that the server sends. So a client is of one connection: `connection.py` makes the next.
- What its parser does not expect of a server ends its reading without a word, and a line may be of any length. Here
  both end the connection.

The overridden methods, `_process_*`, are what the library's parser and reader call at a client.
"""

import asyncio
import logging
import math
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from nats.aio.client import PING_PROTO, Client
from nats.errors import ProtocolError
from nats.protocol import command
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from freshet.engines.nats.messages import BrokerMessage
from freshet.engines.nats.url import NatsServer, NatsSettings
from freshet.errors import EngineUnavailable, TooLargeForEngine

log = logging.getLogger("freshet")

BACKLOG_BYTES = 32 * 1024 * 1024  # that wait to be written
NEVER = 10**8  # seconds: `connection.py` sends the PINGs, and gives up a server that does not answer
CLOSING = 1.0  # seconds for the library to let go of a connection that is broken off already
LONGEST_LINE = 256 * 1024  # bytes, of what is no payload: INFO names all servers of a cluster
_HEADER_LINES = 12  # bytes of `NATS/1.0` and the line ends around headers


class _Parser(Parser):
    async def parse(self, data: bytes = b"") -> None:
        """Raises ProtocolError for whatever a server cannot mean."""
        if self.state == AWAITING_CONTROL_LINE and b"\n" not in data:  # or the whole line is searched for each piece
            self.buf += data
            data = b""
        try:
            if data:
                await super().parse(data)
        except (ProtocolError, OSError):
            raise
        except Exception as error:
            raise ProtocolError from error
        if self.state == AWAITING_CONTROL_LINE and len(self.buf) > LONGEST_LINE:
            raise ProtocolError


class NatsClient(Client):
    """on_message: called with the number of the subscription and the message. on_lost: called once, with the reason,
    when an open connection ends without having been closed here.
    """

    def __init__(self, on_message: Callable[[int, BrokerMessage], None], on_lost: Callable[[str], None]) -> None:
        super().__init__()
        self._ps = _Parser(self)
        self.ended = ""  # the reason, once it has
        self._on_message = on_message
        self._on_lost = on_lost
        self._is_open = False
        self._loop = asyncio.get_running_loop()
        self._to_confirm: list[asyncio.Future[None]] = []  # whoever waits for what is sent in this turn of the loop
        self._confirming: deque[list[asyncio.Future[None]]] = deque()  # the same, of PINGs that are not answered yet
        self._refusal = ""  # what the server refused since the last PONG

    async def open(self, server: NatsServer, settings: NatsSettings) -> None:
        """Connect and log in. Raises OSError, errors.Error and whatever else the library has; sets no time limit."""
        login = settings.login
        self._public_nkey = login.public_key  # the library has a parameter for it only with the package `nkeys`
        jwt = login.jwt.encode() if login.jwt is not None else None
        await self.connect(
            f"nats://{server}",
            name="freshet",
            error_cb=self._on_error,
            allow_reconnect=False,
            connect_timeout=math.ceil(settings.timeout),
            ping_interval=NEVER,
            pending_size=0,  # nothing is kept for later while there is no connection
            tls=settings.tls,
            tls_hostname=server.tls_name or server.host,
            user=login.user,
            password=login.password,
            token=login.token,
            signature_cb=login.sign,
            user_jwt_cb=(lambda: jwt) if jwt is not None else None,
        )
        if not self.is_connected:  # which the library does not look at
            raise ConnectionError("the server closed the connection before it let us in")
        self._is_open = True

    async def dispose(self) -> None:
        """Let go of the connection and of the library's tasks. What waits is not sent any more, and fails."""
        self._is_open = False
        self.end("the connection was closed")
        with suppress(Exception):  # it is broken off already
            async with asyncio.timeout(CLOSING):
                await self.close()

    def end(self, reason: str) -> None:
        """Break the connection off; all that waits for it fails with EOFError. `dispose` has to follow."""
        if self.ended:
            return
        self.ended = reason
        self._pending.clear()
        self._pending_data_size = 0
        # `close` alone would wait until a server that stands still has taken what was written.
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        for waiting in (*self._confirming, self._to_confirm):
            for confirmation in waiting:
                fail(confirmation, EOFError(reason))
        self._confirming.clear()
        self._to_confirm = []
        if self._is_open:
            self._on_lost(reason)

    # -------------------------------------------------------------------------------------------------------- sending

    def send(self, subject: str, data: bytes, reply: str = "", headers: bytes = b"") -> None:
        """Send a message at the end of the loop's turn. headers: `Name: value` lines, each with its CRLF.

        Raises TooLargeForEngine, EngineUnavailable when too much waits to be written, EOFError when it has ended.
        """
        if self.ended:
            raise EOFError(self.ended)
        size = len(data) + (len(headers) + _HEADER_LINES if headers else 0)
        if size > self.max_payload:
            raise TooLargeForEngine(f"NATS takes messages of at most {self.max_payload} bytes: see its max_payload")
        if self._pending_data_size and self._pending_data_size + size > BACKLOG_BYTES:
            raise EngineUnavailable("NATS does not keep up: too much waits to be sent")
        # Not the library's `publish`: it is four coroutines deep, 1.0 us of the 3.9 that a publication costs.
        if headers:
            self._write(command.hpub_cmd(subject, reply, b"NATS/1.0\r\n" + headers + b"\r\n", data))
        else:
            self._write(command.pub_cmd(subject, reply, data))

    def confirm(self) -> "asyncio.Future[None]":
        """Done when the server has taken all that was sent until the end of this turn of the loop.

        EngineUnavailable when it refused something of that, EOFError when the connection ends before. To be called
        before `send`, so that the PING is written together with what it confirms. There is one PING for all of a turn.
        """
        if self.ended:
            raise EOFError(self.ended)
        if not self._to_confirm:
            self._loop.call_soon(self._send_ping_in_turn)
        confirmation = self._loop.create_future()
        self._to_confirm.append(confirmation)
        return confirmation

    def add_subscription(self, number: int, subject: str) -> None:
        """number: ours, by which its messages come."""
        self._write(command.sub_cmd(subject, "", number))

    def remove_subscription(self, number: int) -> None:
        """Some of its messages may be on their way."""
        self._write(command.unsub_cmd(number, 0))

    def _send_ping_in_turn(self) -> None:
        if self._to_confirm:
            self._confirming.append(self._to_confirm)
            self._to_confirm = []
            self._write(PING_PROTO)

    def _write(self, line: bytes) -> None:
        """As the library's `_send_command` and `_flush_pending`, which cannot be called from a callback."""
        if self.ended or self._flush_queue is None:
            return
        self._pending.append(line)
        self._pending_data_size += len(line)
        if self._flush_queue.empty():
            self._flush_queue.put_nowait(self._loop.create_future())

    # ----------------------------------------------------------------------------------------- the library calls these

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """What the library asks for when the server wants TLS; it would take a default one."""
        if "tls" not in self.options:
            raise ConnectionError("the server wants TLS: write tls:// instead of nats://")
        return super().ssl_context

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """The library would go on in plain text, with the password, if a server does not ask for TLS."""
        if initial_connection and "tls" in self.options:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise ConnectionError("the server has no TLS, which the URL asks for")
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        if self.ended:
            return
        try:
            self._on_message(sid, BrokerMessage(subject.decode(), reply.decode(), headers or b"", data))
        except Exception:  # or the library would stop reading, without a word
            log.exception(
                "nats: a message on %s could not be handled, and is left out", subject.decode("utf-8", "replace")
            )

    async def _process_pong(self) -> None:
        if not self._confirming:
            return
        refusal, self._refusal = self._refusal, ""
        for confirmation in self._confirming.popleft():
            if refusal:
                fail(confirmation, EngineUnavailable(f"NATS refused: {refusal}"))
            elif not confirmation.done():
                confirmation.set_result(None)

    async def _process_err(self, err_msg: str) -> None:
        text = err_msg.strip("' ")
        if text.startswith("permissions violation"):
            self._refusal = text
        else:
            self.end(f"the server sent: {text}")

    async def _process_op_err(self, e: Exception) -> None:
        self.end(str(e).removeprefix("nats: ") or type(e).__name__)

    async def _on_error(self, error: Exception) -> None:
        """One attempt is one server: the library would go on by itself. What comes later comes to the others too."""
        if not self._is_open:
            raise error


def fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    """Let what waits fail; perhaps nobody waits any more."""
    if not future.done():
        future.set_exception(error)
        future.exception()
