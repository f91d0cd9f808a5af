"""What a client does with a server that is none: the connection ends, so that the engine makes another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from freshet.engines.nats.client import LONGEST_LINE, NatsClient
from freshet.engines.nats.messages import BrokerMessage
from freshet.engines.nats.url import parse
from tests.tools.patience import eventually


@asynccontextmanager
async def connected(*pieces: bytes) -> AsyncIterator[tuple[NatsClient, list[str], list[bytes]]]:
    """A client of a server that lets it in and then says so much; why it was lost, and what messages it got."""
    lost: list[str] = []
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"max_payload":1048576,"headers":true}\r\n')
        while b"PING" not in await reader.readline():
            pass
        writer.write(b"PONG\r\n")
        try:
            for piece in pieces:
                await asyncio.sleep(0)
                writer.write(piece)
            await reader.read()
        except ConnectionError:
            pass  # that is how the client ends it
        finally:
            writer.close()

    def received(number: int, message: BrokerMessage) -> None:
        got.append(message.data)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        settings = parse(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        client = NatsClient(received, lost.append)
        await client.open(settings.servers[0], settings)
        yield client, lost, got
        await client.dispose()


@pytest.mark.parametrize(
    "line",
    [
        b"-ERR \r\n",
        b"INFO {\r\n",
        b"INFO 7\r\n",
        b"MSG a x 1\r\n",
        b"MSG a 1 -5\r\n",
        b"hello\r\n",
        b"INFO " + b"x" * LONGEST_LINE,
    ],
    ids=lambda line: repr(line[:12]),
)
async def test_a_line_that_no_server_sends_ends_the_connection_at_once(line: bytes) -> None:
    async with connected(b"MSG a 1 2\r\nhi\r\n", line) as (client, lost, got):
        await eventually(lambda: lost, 5, "the end of the connection")
        assert len(lost) == 1
        assert got == [b"hi"]
        with pytest.raises(EOFError):
            client.send("a", b"")


async def test_lines_and_payloads_may_come_in_pieces_of_any_size() -> None:
    message = b"MSG a 1 _INBOX.7 5\r\nhe\r\no\r\n"
    pieces = [message[start : start + 1] for start in range(len(message))]
    async with connected(*pieces, message, *pieces) as (_, lost, got):
        await eventually(lambda: len(got) == 3, 5, "the messages")
        assert got == [b"he\r\no"] * 3
        assert lost == []
