"""The contract of transports, over HTTP streams and server-sent events: under our own shell, and any ASGI server."""

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import httpx
import pytest

from freshet.config import Limits
from tests.contracts.transport import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.transport import Dial, Ended, Link
from tests.tools.need import require
from tests.tools.patience import seconds
from tests.tools.serving import HOST, Server
from tests.transports.shells import SHELLS, shell

TOO_LARGE = {400, 413, 414, 431, 500}  # a server may have a limit of its own for an URL


@pytest.fixture(scope="module", params=SHELLS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with shell(request.param, "tests.transports.application:live", tmp_path_factory.mktemp(request.param)) as server:
        yield server


class StreamLink(Link):
    """The first message opens the stream, the others are posted. Few bytes wait: who does not receive does not read."""

    def __init__(self, server: Server, *, events: bool, http: httpx.AsyncClient) -> None:
        super().__init__()
        self._server = server
        self._events = events
        self._http = http
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._address: dict[str, str] = {}
        self._too_large = False
        self._rest = b""

    async def send(self, text: str) -> None:
        if self._writer is None:
            await self._open(text)
            return
        body = json.dumps({**self._address, "data": text})
        answer = await self._http.post(self._server.http("/emulation"), content=body)
        assert answer.status_code in (204, 404), answer.text

    async def _open(self, text: str) -> None:
        plain = socket.create_connection((HOST, self._server.port))
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self._reader, self._writer = await asyncio.open_connection(sock=plain)
        self._too_large = len(text) > 65536
        if self._events:
            head, body = f"GET /connection/sse?cf_connect={quote(text)} HTTP/1.1\r\n", ""
        else:
            head, body = f"POST /connection/http_stream HTTP/1.1\r\nContent-Length: {len(text)}\r\n", text
        self._writer.write(f"{head}Host: {HOST}:{self._server.port}\r\n\r\n{body}".encode())

    async def receive(self) -> str:
        assert self._reader is not None
        if not self._rest and not self._address:
            await self._head()
        end = b"\n\n" if self._events else b"\n"
        while True:
            message, found, rest = self._rest.partition(end)
            if found:
                self._rest = rest
                lines = [line.removeprefix(b"data: ") for line in message.split(b"\n") if not line.startswith(b":")]
                if lines:
                    return self._noted("\n".join(line.decode() for line in lines))
                continue
            self._rest += await self._chunk()

    async def _head(self) -> None:
        assert self._reader is not None
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if self._too_large and status in TOO_LARGE:
            raise Ended(1009, "message too big")
        assert status == 200, head
        assert b"no-cache" in head.lower()
        assert (b"text/event-stream" in head) is self._events
        self._address = {"node": "", "session": ""}

    async def _chunk(self) -> bytes:
        assert self._reader is not None
        try:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            data = await self._reader.readexactly(size + 2)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Ended(1006, "") from None
        if not size:
            raise Ended(1006, "")
        return data[:-2]

    def _noted(self, text: str) -> str:
        for line in text.split("\n"):
            reply = json.loads(line)
            if "connect" in reply:
                self._address = {name: reply["connect"][name] for name in ("node", "session")}
            if (end := reply.get("push", {}).get("disconnect")) is not None:
                raise Ended(end["code"], end["reason"])
        return text

    def cut(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


@pytest.fixture(params=["http_stream", "sse"])
def dial(request: pytest.FixtureRequest) -> Dial:
    @asynccontextmanager
    async def open_link(server: Server) -> AsyncIterator[Link]:
        async with httpx.AsyncClient(timeout=seconds(5)) as http:
            link = StreamLink(server, events=request.param == "sse", http=http)
            try:
                yield link
            finally:
                link.cut()

    return open_link


async def test_who_is_not_known_is_told_so(server: Server, dial: Dial) -> None:
    """A finished session, one that never was, another node's, and what is no request at all."""
    async with dial(server) as link, httpx.AsyncClient() as http:
        await link.ask(connect={})
        known = dict(link._address)  # type: ignore[attr-defined]
        for wrong in ({"session": "x"}, {"node": "another"}):
            answer = await http.post(server.http("/emulation"), json={**known, **wrong, "data": "{}"})
            assert (answer.status_code, "over" in answer.text) == (404, True)
        for body in (b"", b"{}", b"[]", b"\xff", json.dumps({**known, "data": 7}).encode()):
            assert (await http.post(server.http("/emulation"), content=body)).status_code == 400
        largest = Limits().frame.size
        large = json.dumps({**known, "data": "x" * (largest + 1)})
        answer = await http.post(server.http("/emulation"), content=large)
        assert (answer.status_code, answer.text) == (413, f"At most {largest} bytes, see limits.frame_size.\n")
        assert (await http.post(server.http("/emulation"), json={**known, "data": "{}"})).status_code == 204
        link.cut()
        for _ in range(500):
            answer = await http.post(server.http("/emulation"), json={**known, "data": "{}"})
            if answer.status_code == 404:
                return
        raise AssertionError("the session is still known")


async def test_pages_of_foreign_origins_are_refused(server: Server) -> None:
    async with httpx.AsyncClient() as http:
        for method, path in (("GET", "/connection/sse"), ("POST", "/connection/http_stream"), ("POST", "/emulation")):
            answer = await http.request(method, server.http(path), headers={"Origin": "https://evil.example"})
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers
            own = server.http("")
            preflight = {"Origin": own, "Access-Control-Request-Headers": "content-type"}
            answer = await http.request("OPTIONS", server.http(path), headers=preflight)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, own)


async def test_a_stream_begins_with_a_command(server: Server) -> None:
    async with httpx.AsyncClient() as http:
        for method, path in (("GET", "/connection/sse"), ("POST", "/connection/http_stream")):
            answer = await http.request(method, server.http(path))
            assert (answer.status_code, answer.text) == (400, "Expected a connect command.\n")


def test_a_client_of_http_1_0_gets_a_stream(server: Server) -> None:
    command = [require("curl"), "--http1.0", "--no-buffer", "--silent", "--header", "Accept: text/event-stream"]
    with subprocess.Popen([*command, server.http("/channels/log:old")], stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        lines = [curl.stdout.readline() for _ in range(4)]
        curl.terminate()
    assert [line.partition(":")[0] for line in lines] == ["retry", "id", "event", "data"]
