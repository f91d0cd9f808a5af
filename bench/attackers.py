"""Clients that mean harm, each kind by its name: what `bench.attack` lets loose on a server of its own, on loopback.

An attack is a process with a few connections, or a few thousand, that ends by itself after so many seconds. It is the
least that does harm to a server without limits, not the most that can be sent: the attackers have one core.

Run: python -m bench.attackers NAME PORT SECONDS SECRET
"""

import asyncio
import json
import sys
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress

from bench.process import be_the_load
from bench.subscribers import BEGIN, UPGRADE
from freshet.policy.tokens import issue

KIB = 1024
CHUNK = 64 * KIB  # bytes that are sent at a time
PAUSE = 0.05  # seconds before who was cut comes back
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
Attack = Callable[["Attacker"], Awaitable[None]]


def frame(data: bytes, opcode: int = 1, *, first: int = 0x80) -> bytes:
    """A client's frame, masked with zeros."""
    if len(data) < 126:
        return bytes((first | opcode, 0x80 | len(data))) + bytes(4) + data
    if len(data) < 65536:
        return bytes((first | opcode, 0xFE)) + len(data).to_bytes(2) + bytes(4) + data
    return bytes((first | opcode, 0xFF)) + len(data).to_bytes(8) + bytes(4) + data


def command(**fields: object) -> bytes:
    return frame(json.dumps(fields).encode())


class Attacker:
    """port: of the server. secret: its tokens'; an attack may come with a right one."""

    def __init__(self, port: int, secret: str) -> None:
        self._port = port
        self._secret = secret
        self._users = 0
        self._dropping: set[asyncio.Task[None]] = set()

    def connect(self) -> bytes:
        return command(id=1, connect={"token": self.token()})

    async def socket(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)

    async def websocket(self, *opening: bytes, extra: bytes = b"") -> asyncio.StreamWriter:
        """Behind its handshake; what comes is read and dropped."""
        reader, writer = await self.socket()
        writer.write(BEGIN % (b"/connection/websocket", UPGRADE % extra))
        await reader.readuntil(b"\r\n\r\n")
        writer.writelines(opening)
        task = asyncio.get_running_loop().create_task(_drop(reader))
        self._dropping.add(task)
        task.add_done_callback(self._dropping.discard)
        return writer

    async def flood(self, data: bytes, *opening: bytes, extra: bytes = b"", count: int = 4) -> None:
        """The same again and again, by so many connections, each of which comes back when it is cut."""
        portion = data * max(1, CHUNK // len(data))

        async def one() -> None:
            while True:
                with suppress(OSError, asyncio.IncompleteReadError):
                    writer = await self.websocket(*opening, extra=extra)
                    while not writer.is_closing():
                        writer.write(portion)
                        await writer.drain()
                await asyncio.sleep(PAUSE)

        await asyncio.gather(*(one() for _ in range(count)))

    async def ask(self, *requests: bytes, count: int = 8, reads: bool = True) -> None:
        """The same requests again and again on connections that stay, each by so many. reads: it takes the answers."""

        async def one() -> None:
            reader, writer = await self.socket()
            if reads:
                task = asyncio.get_running_loop().create_task(_drop(reader))
                self._dropping.add(task)
                task.add_done_callback(self._dropping.discard)
            while not writer.is_closing() and (reads or not reader.at_eof()):
                writer.write(b"".join(requests) * 8)
                await writer.drain()
                await asyncio.sleep(0 if reads else 0.2)

        await self.churn(one, count)

    def token(self) -> str:
        self._users += 1
        return issue(self._secret, f"mallory{self._users}", expires_in=600)

    async def churn(self, one: Callable[[], Awaitable[None]], count: int = 8) -> None:
        """The same way in and out, by so many at a time."""

        async def again() -> None:
            while True:
                with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                    await one()
                await asyncio.sleep(0)

        await asyncio.gather(*(again() for _ in range(count)))


async def _drop(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(CHUNK):
            pass


async def busy(it: Attacker) -> None:
    """Nobody attacks: what the attackers' core alone does to the measurement, which the honest clients share with them
    and which may be one with the server's below the hypervisor."""
    while True:
        sum(range(10_000))
        await asyncio.sleep(0)


# -------------------------------------------------------------------------------------------------------- HTTP, heads


async def slow_heads(it: Attacker) -> None:
    """A thousand requests, a byte a second each."""

    async def one() -> None:
        reader, writer = await it.socket()
        for byte in b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\n" + b"x-slow: y\r\n" * 100:
            writer.write(bytes((byte,)))
            await asyncio.sleep(1)
            if reader.at_eof():
                return

    await it.churn(one, 1000)


async def header_floods(it: Attacker) -> None:
    async def one() -> None:
        reader, writer = await it.socket()
        writer.write(b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 250_000)
        await writer.drain()
        await reader.read(KIB)
        writer.close()

    await it.churn(one, 4)


async def handshake_floods(it: Attacker) -> None:
    async def one() -> None:
        writer = await it.websocket()
        writer.close()

    await it.churn(one)


async def half_open(it: Attacker) -> None:
    """Two thousand sockets that say nothing, and are opened again when they are closed."""

    async def one() -> None:
        reader, _ = await it.socket()
        await reader.read(1)

    await it.churn(one, 2000)


# ----------------------------------------------------------------------------------------------------- WebSocket frames


async def pings(it: Attacker) -> None:
    await it.flood(frame(b"x", 9))


async def pongs(it: Attacker) -> None:
    await it.flood(frame(b"", 10), it.connect())


async def empty_commands(it: Attacker) -> None:
    await it.flood(frame(b"{}"))


async def lines_of_pongs(it: Attacker) -> None:
    await it.flood(frame(b"\n".join([b"{}"] * 20_000)), it.connect())


async def fragments(it: Attacker) -> None:
    await it.flood(frame(b"{", first=0) + frame(b"", 0, first=0) * 1000 + frame(b"}", 0))


async def deflate_bombs(it: Attacker) -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflater.compress(b"{}" + b"\n" * (1 << 20) + b"{}") + deflater.flush(zlib.Z_SYNC_FLUSH)
    await it.flood(frame(packed[:-4], first=0xC0), extra=DEFLATE)


# ------------------------------------------------------------------------------------------------------------- commands


async def token_garbage(it: Attacker) -> None:
    token = "eyJhbGciOiJIUzI1NiJ9." + "A" * 8000 + ".x"

    async def one() -> None:
        writer = await it.websocket(command(id=1, connect={"token": token}))
        await writer.drain()
        await writer.wait_closed()

    await it.churn(one)


async def reconnect_loops(it: Attacker) -> None:
    async def one() -> None:
        writer = await it.websocket(it.connect(), command(id=2, subscribe={"channel": "bench"}))
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.close()

    await it.churn(one)


async def subscribe_churn(it: Attacker) -> None:
    both = command(id=2, subscribe={"channel": "room:churn"}) + command(id=3, unsubscribe={"channel": "room:churn"})
    await it.flood(both, it.connect())


async def small_publications(it: Attacker) -> None:
    await it.flood(command(id=2, publish={"channel": "log:small", "data": 1}), it.connect())


async def large_publications(it: Attacker) -> None:
    await it.flood(command(id=2, publish={"channel": "log:large", "data": "x" * 60_000}), it.connect())


async def many_channels(it: Attacker) -> None:
    """A log in each of as many channels as can be made."""
    number = 0
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            writer = await it.websocket(it.connect())
            while not writer.is_closing():
                number += 1
                writer.write(command(id=2, publish={"channel": f"log:made-{number}", "data": "x" * 30_000}))
                await writer.drain()
        await asyncio.sleep(PAUSE)


async def history_loops(it: Attacker) -> None:
    """Sixty that ask for all of a log of megabytes, and do not read it."""
    writer = await it.websocket(it.connect())
    for number in range(200):
        writer.write(command(id=2, publish={"channel": "log:read", "data": "x" * 50_000}))
        if number % 20 == 0:
            await writer.drain()
    await asyncio.sleep(1)

    async def one() -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await it.socket()
                writer.write(BEGIN % (b"/connection/websocket", UPGRADE % b""))
                await reader.readuntil(b"\r\n\r\n")
                writer.write(it.connect())
                while not reader.at_eof():  # what comes fills the reader's limit, and then the socket
                    writer.write(command(id=2, history={"channel": "log:read", "limit": -1}) * 20)
                    await asyncio.sleep(0.2)
            await asyncio.sleep(PAUSE)

    await asyncio.gather(*(one() for _ in range(60)))


async def presence_loops(it: Attacker) -> None:
    """Fifteen hundred in a room, of whom four ask again and again who is there."""
    present = [
        await it.websocket(it.connect() + command(id=2, subscribe={"channel": "room:full"})) for _ in range(1500)
    ]
    await it.flood(command(id=3, presence={"channel": "room:full"}), it.connect())
    assert present


async def slow_readers(it: Attacker) -> None:
    """Two thousand that subscribe to a busy channel and do not read."""
    silent = await subscribe_in_silence(it)
    await it.flood(command(id=3, publish={"channel": "room:busy", "data": "x" * 10_000}), it.connect(), count=1)
    assert silent


async def slow_readers_of_posts(it: Attacker) -> None:
    """The same, of what is published by requests."""
    silent = await subscribe_in_silence(it)
    body = json.dumps("x" * 10_000).encode()
    await it.ask(request("POST", "/channels/room:busy", body, Authorization=f"Bearer {it.token()}"))
    assert silent


async def subscribe_in_silence(it: Attacker) -> list[object]:
    silent: list[object] = []
    for _ in range(2000):
        reader, writer = await it.socket()
        writer.write(BEGIN % (b"/connection/websocket", UPGRADE % b""))
        writer.write(it.connect() + command(id=2, subscribe={"channel": "room:busy"}))
        silent.append((reader, writer))
        if len(silent) % 50 == 0:
            await asyncio.sleep(0.05)
    return silent


async def large_fan_outs(it: Attacker) -> None:
    """Three hundred that read all that one publishes within its rates, as large as may be."""
    reading = [await it.websocket(it.connect() + command(id=2, subscribe={"channel": "room:wide"})) for _ in range(300)]
    writer = await it.websocket(it.connect())
    while not writer.is_closing():
        writer.write(command(id=3, publish={"channel": "room:wide", "data": "x" * 60_000}))
        await writer.drain()
        await asyncio.sleep(0.125)
    assert reading


# ----------------------------------------------------------------------------------------- streams, requests and polls


def request(method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {it}" for name, it in headers.items())]
    if method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def slow_bodies(it: Attacker) -> None:
    """A thousand requests whose bodies come a byte a second."""

    async def one() -> None:
        reader, writer = await it.socket()
        writer.write(request("POST", "/emulation").replace(b"Content-Length: 0", b"Content-Length: 100000"))
        while not reader.at_eof():
            writer.write(b"x")
            await asyncio.sleep(1)

    await it.churn(one, 1000)


async def posted_publications(it: Attacker) -> None:
    await it.ask(request("POST", "/channels/log:posted", b"1", Authorization=f"Bearer {it.token()}"))


async def pages_unread(it: Attacker) -> None:
    """Sixty that ask for a page of megabytes, and do not read it."""
    writer = await it.websocket(it.connect())
    for _ in range(200):
        writer.write(command(id=2, publish={"channel": "log:pages", "data": "x" * 50_000}))
    await writer.drain()
    page = request("GET", "/channels/log:pages?since=oldest", Authorization=f"Bearer {it.token()}")
    await it.ask(page, count=60, reads=False)


async def long_polls(it: Attacker) -> None:
    """A thousand that wait, and come again."""
    poll = request("GET", "/channels/log:polled?wait=60&since=oldest", Authorization=f"Bearer {it.token()}")

    async def one() -> None:
        reader, writer = await it.socket()
        writer.write(poll)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    await it.churn(one, 1000)


async def socketio_polls(it: Attacker) -> None:
    """Sessions that are opened, and never used."""
    await it.ask(request("GET", "/socket.io/?EIO=4&transport=polling"))


async def streams_opened(it: Attacker) -> None:
    """Streams that are opened and cut."""
    connect = json.dumps({"id": 1, "connect": {"token": it.token()}}).encode()

    async def one() -> None:
        reader, writer = await it.socket()
        writer.write(request("POST", "/connection/http_stream", connect))
        await reader.readuntil(b"\n")
        writer.transport.abort()

    await it.churn(one)


async def emulation_floods(it: Attacker) -> None:
    """A stream, and what its client says by requests of `{}` lines."""
    connect = json.dumps({"id": 1, "connect": {"token": it.token()}}).encode()
    reader, writer = await it.socket()
    writer.write(request("POST", "/connection/http_stream", connect))
    answer = (await reader.readuntil(b"}}\r\n")).rpartition(b"\r\n{")[2]
    opened = json.loads(b"{" + answer.strip())["connect"]
    said = {"session": opened["session"], "node": opened["node"], "data": "\n".join(["{}"] * 5000)}
    await it.ask(request("POST", "/emulation", json.dumps(said).encode()))


async def unread_streams(it: Attacker) -> None:
    """A thousand event streams of a busy channel that nobody reads."""

    async def one() -> None:
        reader, writer = await it.socket()
        target = f"/channels/room:streamed?token={it.token()}"
        writer.write(request("GET", target, Accept="text/event-stream"))
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(60)

    silent = asyncio.ensure_future(it.churn(one, 1000))
    await it.flood(command(id=3, publish={"channel": "room:streamed", "data": "x" * 10_000}), it.connect(), count=1)
    await silent


ATTACKS: dict[str, Attack] = {
    "none, on a busy core": busy,
    "slow heads": slow_heads,
    "header floods": header_floods,
    "half-open sockets": half_open,
    "handshake floods": handshake_floods,
    "ping floods": pings,
    "pong floods": pongs,
    "{} floods": empty_commands,
    "frames of {} lines": lines_of_pongs,
    "fragments": fragments,
    "deflate bombs": deflate_bombs,
    "token garbage": token_garbage,
    "reconnect loops": reconnect_loops,
    "subscribe churn": subscribe_churn,
    "small publications": small_publications,
    "large publications": large_publications,
    "many channels": many_channels,
    "history loops": history_loops,
    "presence loops": presence_loops,
    "slow readers": slow_readers,
    "slow readers of posts": slow_readers_of_posts,
    "large fan-outs": large_fan_outs,
    "slow bodies": slow_bodies,
    "publications by POST": posted_publications,
    "pages that nobody reads": pages_unread,
    "long polls": long_polls,
    "polls of Socket.IO": socketio_polls,
    "streams opened and cut": streams_opened,
    "commands of a stream": emulation_floods,
    "streams that nobody reads": unread_streams,
}


async def _attack(name: str, port: int, secret: str, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ATTACKS[name](Attacker(port, secret))


def main() -> None:
    name, port, seconds, secret = sys.argv[1:]
    be_the_load()
    asyncio.run(_attack(name, int(port), secret, float(seconds)))


if __name__ == "__main__":
    main()
