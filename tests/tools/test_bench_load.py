"""The load of the benchmarks counts all that it gets, however it comes: what it does not count passes for lost."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bench.beds import CONFIG, HERE, Load, build
from bench.speeches import Speech, centrifuge, centrifuge_protobuf, plain, socketio_channel, with_channels
from tests.tools.need import require
from tests.tools.patience import seconds, wait_until
from tests.tools.serving import Server, serving

PUSH = b'{"push":{"channel":"bench","pub":{"data":%s},"padding":"%s"}}'
WINDOW = 50
PAYLOAD = 128


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


# -------------------------------------------------------------------------------------- what it says to a real server


SPEECHES = {
    "centrifuge": centrifuge(),
    "centrifuge protobuf": centrifuge_protobuf(PAYLOAD),
    "a channel's URL": plain("/channels/bench"),
    "socket.io": socketio_channel(),
    "many channels": with_channels(centrifuge(), 20),
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("cc")
    require("taskset")
    folder = tmp_path_factory.mktemp("bench")
    build(folder, tokens=10)
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--config", str(CONFIG), env={"FRESHET_TOKENS__ANONYMOUS": "true"}) as server:
        yield server


@contextmanager
def speaking(speech: Speech, server: Server, work: Path) -> Iterator[Load]:
    with TemporaryDirectory(dir=work) as own:  # another load that begins meanwhile must not find half a speech
        load = Load(server.port, speech.write(Path(own) / "speech"), work, cores="0")
        try:
            yield load
        finally:
            load.end()


def all_are_in(load: Load, subscribers: int) -> None:
    """A bare WebSocket is not notified when it is subscribed."""
    wait_until(lambda: load.do("open 1 128 0.001")["deliveries"] == subscribers, 20, "all to be subscribed")


@pytest.mark.parametrize("name", SPEECHES)
def test_the_load_speaks_each_protocol_with_a_real_server(name: str, server: Server, work: Path) -> None:
    with speaking(SPEECHES[name], server, work) as load:
        load.do("connect 3")
        all_are_in(load, 3)
        for window in (1, 8):
            counted = load.do(f"closed {window} {PAYLOAD} 0.1")
            assert counted["deliveries"] == 3 * counted["published"] >= 3 * window
            assert 0 < counted["p50_ms"] <= counted["p99_ms"] <= counted["max_ms"]


def test_two_loads_share_a_channel_and_count_what_the_other_publishes(server: Server, work: Path) -> None:
    with speaking(centrifuge(), server, work) as one, speaking(centrifuge(), server, work) as other:
        one.do("connect 2")
        other.do("connect 3")
        other.begin("receive 3 20")
        assert one.do("open 1 128 0.001")["deliveries"] == 2
        assert other.answer()["deliveries"] == 3


def test_clients_that_were_cut_come_back_with_other_words(server: Server, work: Path) -> None:
    with speaking(centrifuge(), server, work) as load:
        load.do("connect 3")
        load.do("cut")
        assert load.do("open 100 128 0.02")["deliveries"] == 0
        bare = plain("/channels/bench")._replace(publish=centrifuge().publish)
        load.do(f"speak {bare.write(work / 'other')}")
        load.do("connect 2")
        all_are_in(load, 2)


def test_the_samples_are_those_of_the_last_command(server: Server, work: Path) -> None:
    with speaking(centrifuge(), server, work) as load:
        load.do("connect 3")
        counted = load.do("closed 1 128 0.1")
        load.do(f"samples {work / 'samples'}")
        lines = [line.split() for line in (work / "samples").read_text().splitlines()]
        assert sum(int(count) for _, count in lines) == counted["deliveries"]
        assert int(lines[-1][0]) / 1000 == pytest.approx(counted["max_ms"], abs=0.01)


def test_a_load_that_is_not_understood_ends(server: Server, work: Path) -> None:
    wrong = centrifuge(answer=b'"id":777')
    with speaking(wrong, server, work) as load:
        load.begin("nonsense")
        with pytest.raises(RuntimeError, match="nonsense"):
            load.answer()
