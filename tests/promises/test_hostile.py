"""Hostile clients against a real server: nothing but the documented closes comes out, and nobody else notices."""

import asyncio
import os
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.tools.clients import CONFIG, Listener, connected, soon, token
from tests.tools.memory import KIB, MIB, grows_by_less_than
from tests.tools.patience import eventually, seconds
from tests.tools.serving import UNLIMITED, Server, serving

MALFORMED = [
    "",
    " ",
    "null",
    "[]",
    "{",
    "}{",
    '{"id":1}',
    '{"id":-1,"connect":{}}',
    '{"id":4294967296,"connect":{}}',
    '{"id":"1","connect":{}}',
    '{"connect":{}}',
    '{"id":1,"connect":[]}',
    '{"id":1,"connect":{"token":7}}',
    '{"id":1,"subscribe":{"channel":"a"}}',
    '{"id":1,"nothing":{}}',
    '{"id":1,"connect":{"data":' + "[" * 20_000 + "}",
    "\n" * 2000,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("hostile") / "freshet.toml"
    config.write_text(
        CONFIG + "\n[limits]\nconnects_per_second = 0\n" + UNLIMITED
    )  # all of them get in, and say all they like: admission and rates have their own tests
    with serving("--config", str(config)) as server:
        yield server


async def close_code(server: Server, *messages: str | bytes) -> int:
    """How the server closes after these messages."""
    async with connect(server.ws("/connection/websocket")) as client:
        try:
            for message in messages:
                await client.send(message)
            while True:
                await soon(client.recv())
        except ConnectionClosed:
            return client.close_code or 0


async def opened(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A socket behind a right handshake, as Firefox makes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=KIB)
    writer.write(
        b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert (await soon(reader.readuntil(b"\r\n\r\n"))).startswith(b"HTTP/1.1 101")
    return reader, writer


async def raw_close(server: Server, frames: bytes) -> int:
    """The code in the Close frame that answers these bytes; 0: it had none."""
    reader, writer = await opened(server)
    writer.write(frames)
    answer = await soon(reader.read())
    writer.close()
    head, rest = answer[:1], answer[answer.rfind(b"\x88") :]
    assert head in (b"\x88", b"\x8a"), answer  # pongs may come before it
    return int(struct.unpack("!H", rest[2:4])[0]) if len(rest) >= 4 else 0


async def still_serves(server: Server) -> None:
    async with connected(server) as client:
        listener = Listener(client, f"alive-{random.random()}")
        await listener.start()
        await listener.subscription.publish("yes")
        assert await listener.data(1) == ["yes"]


@pytest.mark.parametrize("message", MALFORMED, ids=lambda text: text[:24] or "empty")
async def test_a_malformed_command_closes_with_3501(server: Server, message: str) -> None:
    assert await close_code(server, message) == 3501


async def test_bytes_that_are_no_command_close_with_3501(server: Server) -> None:
    chance = random.Random(7)
    codes = {await close_code(server, chance.randbytes(chance.randrange(1, 200))) for _ in range(50)}
    assert codes == {3501}
    await still_serves(server)


async def test_a_second_connect_closes_with_3501(server: Server) -> None:
    command = f'{{"id":1,"connect":{{"token":"{token()}"}}}}'
    assert await close_code(server, command, command) == 3501


async def test_a_message_over_the_limit_closes_with_1009(server: Server) -> None:
    connect = f'{{"id":1,"connect":{{"token":"{token()}"}}}}'
    assert await close_code(server, connect, "x" * (3 * MIB)) == 1009
    server.wait_for_log("was disconnected: 1009 message too big: at most")
    server.wait_for_log("see limits.frame_size")


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"\x81\x82\0\0\0\0\xff\xff", 1007),  # text that is no UTF-8
        (b"\x81\x02{}", 1002),  # not masked
        (b"\xf1\x80\0\0\0\0", 1002),  # reserved bits
        (b"\x83\x80\0\0\0\0", 1002),  # reserved opcode
        (b"\x80\x80\0\0\0\0", 1002),  # a continuation of nothing
        (b"\x09\x80\0\0\0\0", 1002),  # a fragmented ping
        (b"\x89\xfe\x00\x7e\0\0\0\0" + bytes(126), 1002),  # a ping that is too long
        (b"\x81\xff" + b"\xff" * 8 + b"\0\0\0\0", 1002),  # a negative length
        (b"\x81\xff" + b"\x7f" + b"\xff" * 7 + b"\0\0\0\0", 1009),  # a length of 2^63 - 1
        (b"\x01\x81\0\0\0\0a" + b"\x00\x81\0\0\0\0a" * 5000, 1009),  # fragments without an end
        (b"\x88\x82\0\0\0\0\x03\xed", 1002),  # a close code that is never sent
    ],
)
async def test_a_broken_frame_closes_with_its_code(server: Server, frames: bytes, code: int) -> None:
    assert await raw_close(server, frames) == code


async def test_many_hostile_clients_cost_no_memory_and_nobody_else_notices(server: Server) -> None:
    chance = random.Random(11)

    async def attack() -> None:
        for _ in range(40):
            frames = b"".join(
                bytes((chance.choice((0x81, 0x82, 0x01, 0x00, 0x88, 0x89, 0xC1)), 0x80 | len(payload)))
                + chance.randbytes(4)
                + payload
                for payload in (chance.randbytes(chance.randrange(0, 120)) for _ in range(5))
            )
            await raw_close(server, frames + b"\x88\x80\0\0\0\0")

    async with connected(server) as client:
        listener = Listener(client, "calm")
        await listener.start()
        await asyncio.gather(*(attack() for _ in range(30)))  # what the first ones allocate stays for the next
        with grows_by_less_than(server, 8 * MIB):
            for index in range(3):
                await asyncio.gather(*(attack() for _ in range(10)))
                await listener.subscription.publish(index)
            assert await listener.data(3) == [0, 1, 2]


@pytest.mark.parametrize(
    "request_",
    [
        b"\0" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /connection/websocket HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"POST /connection/websocket HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    ],
    ids=["zeros", "version", "no key", "length", "path", "headers", "tls"],
)
async def test_what_is_no_handshake_opens_nothing_and_breaks_nothing(server: Server, request_: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request_)
    writer.write_eof()
    with suppress(ConnectionError):
        assert b" 101 " not in await soon(reader.read())
    writer.close()
    await still_serves(server)


async def test_clients_that_vanish_in_the_middle_leave_nobody_present(server: Server) -> None:
    """Each is reset at some place in its conversation, many within a frame."""
    chance = random.Random(5)
    connect_ = b'{"id":1,"connect":{"token":"%b"}}\n{"id":2,"subscribe":{"channel":"vanish"}}' % token().encode()
    frames = b"\x81\xfe" + struct.pack("!H", len(connect_)) + bytes(4) + connect_

    async def vanish() -> None:
        _reader, writer = await opened(server)
        writer.write(frames[: chance.choice((chance.randrange(len(frames)), len(frames)))])
        linger = struct.pack("ii", 1, 0)  # a reset instead of an orderly end
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    async with connected(server, "bob") as client:
        listener = Listener(client, "vanish")
        await listener.start()
        for _ in range(10):
            await asyncio.gather(*(vanish() for _ in range(20)))

        async def only_bob() -> bool:
            presence = await listener.subscription.presence()
            return {info.user for info in presence.clients.values()} == {"bob"}

        await eventually(only_bob, 5, "all but one to be gone")
    await still_serves(server)


async def test_hundreds_of_sockets_that_say_nothing_keep_nobody_waiting(server: Server) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(150)]
    half = [await opened(server) for _ in range(150)]
    for _reader, writer in half:
        writer.write(b"\x81\xfe\xff")  # a frame whose length never comes
    await still_serves(server)
    for _reader, writer in silent + half:
        writer.close()


async def test_commands_without_end_from_one_client_keep_no_other_waiting(server: Server) -> None:
    """It asks more than the backlog takes and reads no reply: reading stops, and the others go on."""
    async with connect(server.ws("/connection/websocket")) as greedy:
        await greedy.send(f'{{"id":1,"connect":{{"token":"{token()}"}}}}')
        await soon(greedy.recv())
        lines = "\n".join(f'{{"id":{number},"ping":{{}}}}' for number in range(2, 1000))
        flood = asyncio.create_task(_flood(greedy, lines))
        for _ in range(2):
            await still_serves(server)
        flood.cancel()
        with suppress(asyncio.CancelledError):
            await flood
        greedy.transport.abort()  # what it did not read keeps a polite end away


async def _flood(client: ClientConnection, message: str) -> None:
    with suppress(ConnectionClosed):
        while True:
            await client.send(message)


async def test_a_client_that_does_not_read_is_cut_and_the_others_get_everything(server: Server) -> None:
    reader, writer = await opened(server)
    sent = b'{"id":1,"connect":{"token":"%b"}}\n{"id":2,"subscribe":{"channel":"flood"}}' % token("slow").encode()
    writer.write(b"\x81\xfe" + struct.pack("!H", len(sent)) + bytes(4) + sent)
    await asyncio.wait_for(reader.readuntil(b'"id":2'), seconds(5))
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    async with connected(server, "bob") as client:
        listener = Listener(client, "flood")
        await listener.start()
        message = "x" * 30_000
        with grows_by_less_than(server, 40 * MIB):
            for _ in range(400):  # 12 MB: more than the kernel and the outbox take together
                await listener.subscription.publish(message)
            assert await listener.data(400) == [message] * 400
        left = await listener.event("leave")
        assert left.info.user == "slow"
    writer.close()


async def test_a_client_that_never_says_who_it_is_is_sent_away_as_stale(tmp_path: Path) -> None:
    config = tmp_path / "freshet.toml"
    config.write_text(CONFIG + "\n[timing]\nconnect_timeout = 1\n")
    with serving("--config", str(config)) as server:
        assert await close_code(server) == 3502


async def test_a_client_that_does_not_answer_heartbeats_is_sent_away(tmp_path: Path) -> None:
    config = tmp_path / "freshet.toml"
    config.write_text(CONFIG + "\n[timing]\nping_interval = 1\npong_timeout = 0.5\n")
    with serving("--config", str(config)) as server:
        assert await close_code(server, f'{{"id":1,"connect":{{"token":"{token()}"}}}}') == 3012


async def test_a_connection_whose_token_ran_out_is_ended(tmp_path: Path) -> None:
    config = tmp_path / "freshet.toml"
    config.write_text(CONFIG + "\n[timing]\nexpiry_grace = 0\n")
    with serving("--config", str(config)) as server:
        assert await close_code(server, f'{{"id":1,"connect":{{"token":"{token(expires_in=seconds(2))}"}}}}') == 3005


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"])
async def test_a_page_of_another_origin_may_not_connect(tmp_path: Path, origin: str) -> None:
    with serving("--dev") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: %b\r\n\r\n"
            % (server.port, origin.encode())
        )
        assert (await asyncio.wait_for(reader.readline(), seconds(5))).startswith(b"HTTP/1.1 403")
        writer.close()


async def test_without_a_secret_nobody_connects_and_the_server_says_what_to_set() -> None:
    assert "FRESHET_SECRET" not in os.environ
    with serving() as server:
        server.wait_for_log("FRESHET_SECRET")
        assert await close_code(server, f'{{"id":1,"connect":{{"token":"{token()}"}}}}') == 3500


async def test_where_few_files_may_be_opened_silent_connections_go_and_clients_are_served() -> None:
    limited = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh"]
    with serving("--dev", prefix=limited) as server:
        async with connect(server.ws("/channels/a")) as link:
            others = [socket.create_connection((server.host, server.port), seconds(5)) for _ in range(100)]
            await link.send("still here")
            assert await soon(link.recv()) == "still here"
            async with connect(server.ws("/channels/a")) as later:
                await later.send("again")
                assert await soon(link.recv()) == await soon(later.recv()) == "again"
            assert len([*Path(f"/proc/{server.pid}/fd").iterdir()]) < 64
            for each in others:
                each.close()
        assert len(server.log()) < 4 * KIB
