"""What a server that says it is NATS sends: read by the library's loop and parser, with what `client.py` makes of them.

Whatever comes, a connection that is not read any more has ended, so that the next one is made.
"""

import asyncio
from collections.abc import Hashable
from random import Random
from urllib.parse import urlsplit

from nats.aio.client import Client, Srv

from freshet.engines.nats.client import NatsClient
from freshet.engines.nats.messages import BrokerMessage
from tests.fuzz.brokers import OneLoop, silent
from tests.fuzz.grammar import cut, json_text, text
from tests.fuzz.harness import Target


class _Pieces:
    """As a transport of the library: what comes, and then its reading is cancelled, as when a client is closed."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = iter(pieces)
        self.read_all = False

    def at_eof(self) -> bool:
        return False

    def writelines(self, lines: list[bytes]) -> None:
        """Nobody reads that."""

    async def drain(self) -> None:
        """There is always room."""

    async def read(self, size: int) -> bytes:
        piece = next(self._pieces, None)
        if piece is None:
            self.read_all = True
            raise asyncio.CancelledError
        return piece


async def _read(data: bytes) -> Hashable:
    """A byte with the size of pieces, and the bytes."""
    messages: list[tuple[int, BrokerMessage]] = []
    lost: list[str] = []
    client = NatsClient(lambda sid, message: messages.append((sid, message)), lost.append)
    client._status, client._is_open = Client.CONNECTED, True
    client._current_server = Srv(urlsplit("nats://127.0.0.1:4222"))
    client._flush_queue = asyncio.Queue()
    client.options["dont_randomize"] = True
    pieces = _Pieces(list(cut(data[1:], data[:1])))
    client._transport = pieces
    confirmed = client.confirm()
    await asyncio.sleep(0)
    with silent("freshet", "nats.aio.client"):
        await client._read_loop()
    assert pieces.read_all or client.ended, "it is not read any more, and nobody knows"
    assert len(lost) == bool(client.ended)
    outcome = "waits" if not confirmed.done() else "refused" if confirmed.exception() else "confirmed"
    client.end("over")
    for _, message in messages:
        message.header(b"Nats-Sequence")
    return len(messages), "".join(lost)[:20], outcome, bool(messages and messages[0][1].status)


def run_wire(data: bytes) -> Hashable:
    return _on_loop(_read(data))


def _operation(chance: Random) -> bytes:
    payload = chance.choice((b"", b"hi", b"\x92\xa4said\xc0", b"x" * 300))
    size = b"%d" % chance.choice((len(payload), len(payload), len(payload), 0, 3, 10**9, 10**30))
    head = chance.choice((b"NATS/1.0\r\nNats-Sequence: 7\r\n\r\n", b"NATS/1.0 503\r\n\r\n", b"\xff" * 9))
    whole = b"%d %d" % (chance.choice((len(head), len(head), 0, 10**6)), len(head + payload))
    return chance.choice(
        (
            b"MSG a.b 1 " + size + b"\r\n" + payload + b"\r\n",
            b"MSG a.b 1 _INBOX.1 " + size + b"\r\n" + payload + b"\r\n",
            b"MSG \xff x -5\r\n\r\n",
            b"HMSG a 1 " + whole + b"\r\n" + head + payload + b"\r\n",
            b"HMSG a 1 r " + whole + b"\r\n" + head + payload + b"\r\n",
            b"PING\r\n",
            b"PONG\r\n",
            b"+OK\r\n",
            b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n",
            b"-ERR 'Stale Connection'\r\n",
            b"-ERR\r\n",
            b"-ERR \r\n",
            b'INFO {"connect_urls":["10.0.0.1:4222","[::1]:4222"],"ldm":true}\r\n',
            b"INFO " + json_text(chance).replace(b"\n", b" ") + b"\r\n",
            b"INFO " + json_text(chance, {"connect_urls": [text(chance)]}).replace(b"\n", b" ") + b"\r\n",
            b"INFO {\r\n",
            text(chance).encode() + b"\r\n",
        )
    )


def _operations(chance: Random) -> bytes:
    sizes = bytes((chance.choice((0, 1, 7, 100)),))
    return sizes + b"".join(_operation(chance) for _ in range(chance.randrange(1, 6)))


_on_loop = OneLoop()
WORDS = [b"\r\n", b"MSG ", b"HMSG ", b"PING", b"PONG", b"+OK", b"-ERR ", b"INFO ", b" 1 ", b"'", b"\t", b"{}"]
TARGETS = [Target("wire", run_wire, _operations, WORDS, fixed=0.02, each=10e-6, swells=400)]
