"""TLS: certificates that are read anew when they change, and handshakes that have a deadline.

A connection is a `TlsHandshake` until its handshake is done. Until then it is a guest of the lobby like any other that
has not shown who it is, so that whoever begins handshakes and never ends them keeps nobody out.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn, cast

from cryptography import x509

from freshet.errors import ConfigError
from freshet.observe.logs import BoundedLog
from freshet.runtime.server import TlsFiles
from freshet.runtime.tasks import Tasks
from freshet.transports.lobby import Lobby

log = logging.getLogger("freshet.tls")
_log = BoundedLog(log)

# Forward secrecy and authenticated encryption only, for TLS 1.2; the suites of TLS 1.3 are all of that kind.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
PROTOCOLS = ["http/1.1"]  # by ALPN (RFC 7301)
CLOSING = 5.0  # seconds for a client to answer a close_notify
SOON = timedelta(days=7)  # in which a certificate should have been renewed

Stamp = tuple[int, int, int]


class Certificates:
    """The TLS context of new connections; those that are open keep theirs.

    Raises ConfigError, with the option, for files that cannot be read or do not fit together.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = self._stamps()
        self.context = context_of(files)
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """From now on look, every so often, whether the files have changed."""
        self._timer = asyncio.get_running_loop().call_later(self._files.reload, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def refresh(self) -> None:
        """Read the files if they have changed. What cannot be used changes nothing, and is logged once."""
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self.context = context_of(self._files)
        except ConfigError as error:
            log.error("tls: the files have changed and cannot be used, the certificate before stays: %s", error)
        else:
            log.info("tls: %s was read again; connections that are open stay as they are", self._files.certificate)

    def _look(self) -> None:
        self.refresh()
        self.watch()

    def _stamps(self) -> list[Stamp | None]:
        """Of each file: another one in its place, or another content, has another stamp."""
        return [_stamp(Path(path)) for path in self._files[:3] if path]


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def context_of(files: TlsFiles) -> ssl.SSLContext:
    """Raises ConfigError."""
    for option, path in zip(("tls.certificate", "tls.key", "tls.client_ca"), files[:3], strict=True):
        try:
            content = Path(path).read_bytes() if path else b""
        except OSError as error:
            raise ConfigError(option, f"{path} cannot be read: {error.strerror}") from None
        if option == "tls.certificate":
            _look_at_the_end(content, path)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers(CIPHERS)
    made.set_alpn_protocols(PROTOCOLS)
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        made.load_cert_chain(files.certificate, files.key or None, _no_password)
    except ssl.SSLError as error:
        where = f"of {files.certificate}" if files.key else "in the same file"
        why = "is not a key in PEM" if error.reason != "KEY_VALUES_MISMATCH" else f"is not that {where}"
        raise ConfigError("tls.key", f"{files.key or files.certificate}: the key {why}") from None
    if files.client_ca:
        try:
            made.load_verify_locations(files.client_ca)
        except ssl.SSLError:
            raise ConfigError("tls.client_ca", f"{files.client_ca}: not a certificate in PEM") from None
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def _look_at_the_end(content: bytes, path: str) -> None:
    """Raises ConfigError for what is no certificate; one that ends soon is told to the operator."""
    try:
        end = x509.load_pem_x509_certificate(content).not_valid_after_utc
    except ValueError:
        raise ConfigError("tls.certificate", f"{path}: not a certificate in PEM") from None
    left = end - datetime.now(UTC)
    if left < SOON:
        has = "has ended" if left < timedelta() else "will end"
        log.warning("tls: the certificate of %s %s at %s: clients refuse it then; renew it", path, has, end)


def _no_password() -> NoReturn:
    raise ConfigError("tls.key", "the key is encrypted, and nobody is there to type a password: store it without one")


class TlsHandshake(asyncio.Protocol):
    """A connection whose handshake is not done.

    serve: makes what the connection is from then on. connections: uvicorn's set of those that are to be shut down with
    it. timeout: seconds for the handshake.
    """

    _transport: asyncio.Transport
    _deadline: float

    def __init__(
        self,
        serve: Callable[[], asyncio.Protocol],
        certificates: Certificates,
        connections: set[asyncio.Protocol],
        lobby: Lobby,
        tasks: Tasks,
        timeout: float,
    ) -> None:
        self._serve = serve
        self._certificates = certificates
        self._connections = connections
        self._lobby = lobby
        self._tasks = tasks
        self._timeout = timeout
        self._early = b""  # what came before there was somebody to read it
        self._begun = False
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._deadline = asyncio.get_running_loop().time() + self._timeout
        self._connections.add(self)
        if not self._lobby.enter(self):
            self._transport.abort()
            return
        self._tasks.start(self._shake_hands(), "tls: handshake")

    async def _shake_hands(self) -> None:
        if self._is_lost():
            return
        self._begun = True
        loop = asyncio.get_running_loop()
        loop.call_soon(self._pass_on)
        try:
            transport = await loop.start_tls(
                self._transport,
                self,
                self._certificates.context,
                server_side=True,
                ssl_handshake_timeout=self._timeout,
                ssl_shutdown_timeout=CLOSING,
            )
        except OSError as error:
            self._failed(error)
            return
        finally:
            self._leave()
        if transport is None or self._is_lost():  # which is no error to `start_tls`
            return
        # Only what this does not take is told to who writes, as waiting: it would hold 64 KiB of each unnoticed.
        self._transport.set_write_buffer_limits(high=1, low=0)
        protocol = self._serve()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._early:
            protocol.data_received(self._early)

    def _is_lost(self) -> bool:
        return self._ended or self._transport.is_closing()

    def _pass_on(self) -> None:
        """The first bytes may have come before the task. TLS has to find them when it begins, in the next callback."""
        reader = cast(asyncio.BufferedProtocol, self._transport.get_protocol())
        data, self._early = self._early, b""
        while data:
            room = memoryview(reader.get_buffer(len(data)))
            size = min(len(room), len(data))
            room[:size] = data[:size]
            reader.buffer_updated(size)
            data = data[size:]

    def _failed(self, error: OSError) -> None:
        self._transport.abort()
        if isinstance(error, ssl.SSLError):
            name = self._transport.get_extra_info("peername")
            _log.warning(
                "failed", "tls: the handshake of a client (%s) failed: %s", name[0] if name else "", error.reason
            )

    def _leave(self) -> None:
        self._connections.discard(self)
        self._lobby.leave(self)

    # ------------------------------------------------------------------------------- before the handshake, and after it

    def data_received(self, data: bytes) -> None:
        self._early += data
        if not self._begun:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        self._ended = True  # nobody waits for an answer

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        self._leave()

    def shutdown(self) -> None:
        """What uvicorn calls when the server ends."""
        self._transport.abort()

    # -------------------------------------------------------------------------------------------------- see `Guest`

    def deadline(self) -> float:
        return self._deadline

    def overdue(self) -> bool:
        self._transport.abort()
        return True

    def evict(self) -> None:
        self._transport.abort()
