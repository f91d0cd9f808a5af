"""The load of the benchmarks counts all that it gets, however it comes: what it does not count passes for lost."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.beds import HERE
from bench.speeches import centrifuge
from tests.tools.need import require
from tests.tools.patience import seconds

PUSH = b'{"push":{"channel":"bench","pub":{"data":%s},"padding":"%s"}}'
WINDOW = 50


class Relay:
    """A server that is slow on purpose: it keeps what is published, and sends it in its own way.

    padding: bytes that each gets besides. Where there are some, `WINDOW` of them go in one frame; otherwise each goes
    at once, byte by byte.
    """

    def __init__(self, padding: int = 0) -> None:
        self._padding = padding
        self._kept: list[bytes] = []
        self._subscriber: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        try:
            while True:
                await self._answer(await _text(reader), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, text: bytes, writer: asyncio.StreamWriter) -> None:
        for line in text.split(b"\n"):
            if b'"connect"' in line:
                writer.write(_frame(b'{"id":1}'))
            elif b'"subscribe"' in line:
                writer.write(_frame(b'{"id":2}'))
                self._subscriber = writer
            else:
                data = json.dumps(json.loads(line)["publish"]["data"], separators=(",", ":")).encode()
                await self._publish(PUSH % (data, b"x" * self._padding))

    async def _publish(self, push: bytes) -> None:
        assert self._subscriber is not None
        if self._padding:
            self._kept.append(push)
            if len(self._kept) == WINDOW:
                self._subscriber.write(_frame(b"\n".join(self._kept)))
                self._kept.clear()
            return
        for byte in _frame(push):
            self._subscriber.write(bytes((byte,)))
            await asyncio.sleep(0)


async def _text(reader: asyncio.StreamReader) -> bytes:
    """The text of a frame that is masked with zeros."""
    length = (await reader.readexactly(2))[1] & 127
    if length == 126:
        length = int.from_bytes(await reader.readexactly(2))
    await reader.readexactly(4)
    return await reader.readexactly(length)


def _frame(text: bytes) -> bytes:
    if len(text) < 126:
        return bytes((0x81, len(text))) + text
    if len(text) < 65536:
        return b"\x81\x7e" + len(text).to_bytes(2) + text
    return b"\x81\x7f" + len(text).to_bytes(8) + text


@asynccontextmanager
async def load_on(relay: Relay, work: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The load with a subscriber."""
    require("cc")
    subprocess.run(["cc", "-O2", "-o", str(work / "load"), str(HERE / "load.c")], check=True)
    (work / "tokens").write_text("a\nb\n")
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    async with server:
        port = str(server.sockets[0].getsockname()[1])
        load = await asyncio.create_subprocess_exec(
            str(work / "load"),
            port,
            str(work / "tokens"),
            str(centrifuge().write(work / "speech")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            await ask(load, "connect 1")
            yield load
        finally:
            load.kill()
            await load.wait()


async def ask(load: asyncio.subprocess.Process, command: str) -> dict[str, float]:
    assert load.stdin is not None
    assert load.stdout is not None
    load.stdin.write(f"{command}\n".encode())
    answer: dict[str, float] = json.loads(await asyncio.wait_for(load.stdout.readline(), seconds(10)))
    return answer


async def test_what_comes_in_many_small_pieces_is_waited_for_and_counted(tmp_path: Path) -> None:
    async with load_on(Relay(), tmp_path) as load:
        counted = await ask(load, "open 1000 128 0.2")

    assert counted["deliveries"] == counted["published"] > 100


@pytest.mark.parametrize("padding", [1, 1000, 50_000])
async def test_publications_that_come_in_one_frame_of_any_length_are_all_counted(tmp_path: Path, padding: int) -> None:
    async with load_on(Relay(padding), tmp_path) as load:
        counted = await ask(load, f"closed {WINDOW} 128 0.001")

    assert counted["deliveries"] == counted["published"] >= WINDOW
