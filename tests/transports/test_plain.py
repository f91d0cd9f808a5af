"""What is recognised at one look: all that real clients send, and nothing that strict parsers see otherwise."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st
from selenium import webdriver
from websockets.asyncio.client import connect

from freshet.runtime.server import HttpBounds
from freshet.transports.plain import plain_request
from freshet.websocket import handshake
from tests.tools.pages import serving_files
from tests.tools.patience import eventually, seconds

BOUNDS = HttpBounds()
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
FIREFOX = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; "
    b"rv:132.0) Gecko/20100101 Firefox/132.0\r\nAccept: */*\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip"
    b", deflate, br, zstd\r\nSec-WebSocket-Version: 13\r\nOrigin: http://127.0.0.1:8000\r\nSec-WebSocket-Extensions: "
    b"permessage-deflate\r\nSec-WebSocket-Key: " + KEY + b"\r\nDNT: 1\r\nConnection: keep-alive, Upgrade\r\nSec-Fetch"
    b"-Dest: empty\r\nSec-Fetch-Mode: websocket\r\nSec-Fetch-Site: same-origin\r\nPragma: no-cache\r\nCache-Control: no"
    b"-cache\r\nUpgrade: websocket\r\n\r\n"
)
SAFARI = (
    b"GET /channels/news?token=a.b.c HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nOrigin: https://example.org"
    b"\r\nPragma: no-cache\r\nAccept: */*\r\nCache-Control: no-cache\r\nSec-WebSocket-Version: 13\r\nCookie: a=b; c=d"
    b"\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
    + KEY
    + b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)


@asynccontextmanager
async def recording() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Where it is, and the first bytes of each client that comes there, which gets nothing."""
    heads: list[bytes] = []

    async def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if head := await reader.read(1 << 16):  # a browser also connects to ask nothing
            heads.append(head)
        writer.close()

    async with await asyncio.start_server(come, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


def targets(heads: list[bytes]) -> list[bytes]:
    """Of those that are recognised."""
    return sorted({found.target for head in heads if (found := plain_request(head, BOUNDS)) is not None})


# ---------------------------------------------------------------------------------------------------- real clients


async def test_the_official_clients_in_node_are_recognised(node: Path) -> None:
    async with recording() as (place, heads):
        process = await asyncio.create_subprocess_exec("node", "opens.mjs", f"ws://{place}", cwd=node)
        try:
            await eventually(lambda: len({head.partition(b"&t=")[0][:60] for head in heads}) >= 5, 20)
        finally:
            process.kill()
            await process.wait()
    assert [head for head in heads if plain_request(head, BOUNDS) is None] == []
    found = {target.partition(b"&t=")[0] for target in targets(heads)}
    assert found >= {
        b"/connection/websocket",
        b"/socket.io/?EIO=4&transport=websocket",
        b"/socket.io/?EIO=4&transport=polling",
        b"/channels/news?wait=25",
        b"/channels/news",
    }


async def test_a_browser_is_recognised(browser: webdriver.Chrome, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>page</title>")
    with serving_files(tmp_path) as page:
        await asyncio.to_thread(browser.get, page)
        async with recording() as (place, heads):
            asks = f"window.socket = new WebSocket('ws://{place}/channels/news', ['freshet', 'freshet.token.a.b.c'])"
            await asyncio.to_thread(browser.execute_script, asks)
            await eventually(lambda: bool(heads), 10)
    assert targets(heads) == [b"/channels/news"], heads
    assert b"permessage-deflate" in heads[0]


async def test_the_clients_of_python_are_recognised() -> None:
    async with recording() as (place, heads), aiohttp.ClientSession() as session:
        with suppress(Exception):
            await connect(f"ws://{place}/websockets", open_timeout=seconds(5))
        with suppress(Exception):
            await session.ws_connect(f"ws://{place}/aiohttp")
    assert targets(heads) == [b"/aiohttp", b"/websockets"]


def test_firefox_and_safari_are_recognised() -> None:
    assert targets([FIREFOX, SAFARI]) == [b"/channels/news?token=a.b.c", b"/connection/websocket"]


# ---------------------------------------------------------------------------------------- whatever is not as usual

DOUBTFUL = {
    "another method": (b"GET /", b"POST /"),
    "an absolute target": (b"GET /", b"GET http://h/"),
    "a fragment": (b"GET /", b"GET /#"),
    "a space in the target": (b"GET /", b"GET / "),
    "a control in the target": (b"GET /", b"GET /\x00"),
    "a target that is not ASCII": (b"GET /", b"GET /\xe9"),
    "an older version": (b"HTTP/1.1", b"HTTP/1.0"),
    "a version in lower case": (b"HTTP/1.1", b"http/1.1"),
    "a line that ends with LF": (b"\r\nHost", b"\nHost"),
    "a line that ends with CR": (b"\r\nHost", b"\rHost"),
    "an empty line before it": (b"GET", b"\r\nGET"),
    "no host": (b"Host: ", b"Ghost: "),
    "two hosts": (b"Host:", b"Host: other\r\nHost:"),
    "a header twice": (b"Host:", b"cookie: a\r\nCookie: b\r\nHost:"),
    "a folded header": (b"Host:", b"A: b\r\n c\r\nHost:"),
    "a space before the colon": (b"Host:", b"Host :"),
    "no space behind the colon": (b"Host: ", b"Host:"),
    "two spaces behind the colon": (b"Host: ", b"Host:  "),
    "a tab": (b"Host: ", b"Host: \t"),
    "a space at the end": (b"Version: 13", b"Version: 13 "),
    "an empty value": (b"Host:", b"A: \r\nHost:"),
    "a control in a value": (b"Host: ", b"Host: \x0b"),
    "a NUL in a value": (b"Host: ", b"Host: \x00"),
    "a name that is no token": (b"Host:", b"A(: b\r\nHost:"),
    "no name": (b"Host:", b": b\r\nHost:"),
    "a length": (b"Host:", b"Content-Length: 0\r\nHost:"),
    "a coding": (b"Host:", b"Transfer-Encoding: chunked\r\nHost:"),
    "an expectation": (b"Host:", b"Expect: 100-continue\r\nHost:"),
    "a proxy that says for whom": (b"Host:", b"X-Forwarded-For: 192.0.2.1\r\nHost:"),
    "a proxy that says by what": (b"Host:", b"X-Forwarded-Proto: https\r\nHost:"),
    "a proxy that says it as RFC 7239 has it": (b"Host:", b"Forwarded: for=192.0.2.1\r\nHost:"),
    "another upgrade": (b"Upgrade: websocket", b"Upgrade: h2c"),
    "a choice of upgrades": (b"Upgrade: websocket", b"Upgrade: h2c, websocket"),
    "no wish to upgrade": (b"Connection: Upgrade", b"Connection: keep-alive"),
    "a header for one hop": (b"Connection: Upgrade", b"Connection: Upgrade, Cookie"),
    "another version of the protocol": (b"Version: 13", b"Version: 8"),
    "a short key": (KEY, KEY[4:]),
    "a key that is not base64": (KEY, b"*" + KEY[1:]),
    "bytes behind it": (b"\r\n\r\n", b"\r\n\r\n\x81"),
    "half of it": (b"\r\n\r\n", b"\r\n"),
    "a long URL": (b"GET /", b"GET /" + b"x" * BOUNDS.url_size),
    "a long header": (b"Host:", b"A: " + b"x" * BOUNDS.head_size + b"\r\nHost:"),
    "many headers": (b"Host:", b"".join(b"A%d: b\r\n" % number for number in range(BOUNDS.headers)) + b"Host:"),
}


@pytest.mark.parametrize("kind", DOUBTFUL)
def test_what_is_doubtful_is_left_to_the_parser(kind: str) -> None:
    usual, odd = DOUBTFUL[kind]
    assert usual in SAFARI
    assert plain_request(SAFARI.replace(usual, odd, 1), BOUNDS) is None


# ------------------------------------------------------------------------------------------------- the strict parser

_line = st.builds(
    lambda name, gap, value: name + b":" + gap + value + b"\r\n",
    st.sampled_from(
        [b"Origin", b"cookie", b"X-A", b"Sec-WebSocket-Protocol", b"Content-Length", b"Host", b"\xe9", b""]
    ),
    st.sampled_from([b" ", b" ", b" ", b"", b"  ", b"\t"]),
    st.sampled_from([b"a", b"a, b", b"", b" ", b"a ", b"\xff", b"\x7f", b"a\r", b"a\nb", b"0"]) | st.binary(max_size=8),
)
_heads = st.builds(
    lambda target, first, lines, behind: (
        b"GET /" + target + b" HTTP/1.1\r\n" + first + b"".join(lines) + SAFARI.partition(b"\r\n")[2] + behind
    ),
    st.sampled_from([b"", b"a?b=%ff", b"%2e%2e/", b"a b", b"\xe9"]) | st.binary(max_size=8),
    st.sampled_from([b"", b"A: b\r\n", b" c\r\n"]),
    st.lists(_line, max_size=3),
    st.sampled_from([b"", b"", b"\r\n", b"x"]),
)


@given(_heads)
def test_what_is_recognised_is_what_the_strict_parser_reads(head: bytes) -> None:
    found = plain_request(head, BOUNDS)
    if found is not None:
        request = handshake.parse_request(head)
        assert (found.target, found.headers) == (request.target, request.headers)
        assert found.key == handshake.check(request.headers)


class Read:
    """A request as uvicorn's parser reads it."""

    def __init__(self) -> None:
        self.url, self.headers, self.body = b"", list[tuple[bytes, bytes]](), b""
        self.whole = 0
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole += 1


_requests = st.builds(
    lambda method, target, lines, length, body: (
        method + b" /" + target + b" HTTP/1.1\r\nHost: h\r\n" + b"".join(lines) + length + b"\r\n" + body
    ),
    st.sampled_from([b"GET", b"POST", b"POST", b"HEAD"]),
    st.sampled_from([b"", b"a?b=%ff", b"%2e%2e/", b"a b", b"\xe9"]) | st.binary(max_size=8),
    st.lists(_line, max_size=3),
    st.sampled_from(
        [b"", b"Connection: close\r\n", b"Content-Length: 0\r\n", b"Content-Length: 2\r\n", b"Content-Length: 02\r\n"]
    ),
    st.sampled_from([b"", b"{}", b"{}", b"abc"]),
)


@given(_requests)
def test_a_request_that_is_recognised_is_the_one_that_uvicorn_would_read(data: bytes) -> None:
    found = plain_request(data, BOUNDS)
    if found is None:
        return
    read = Read()
    read.parser.feed_data(data)
    assert (read.whole, read.parser.should_upgrade()) == (1, False)
    last = not read.parser.should_keep_alive()
    assert found == (read.parser.get_method(), read.url, read.headers, read.body, b"", last)


def test_polls_and_posts_of_real_clients_are_recognised() -> None:
    get = b"GET /socket.io/?EIO=4&transport=polling&t=a&sid=b HTTP/1.1\r\nUser-Agent: node\r\nAccept: */*\r\n"
    host = b"Host: 127.0.0.1:8000\r\nConnection: keep-alive\r\n"
    post = get.replace(b"GET", b"POST") + b"Content-type: text/plain;charset=UTF-8\r\nContent-Length: 2\r\n"
    found = [plain_request(data, BOUNDS) for data in (get + host + b"\r\n", post + host + b"\r\n40")]
    assert [(each.method, each.body) for each in found if each] == [(b"GET", b""), (b"POST", b"40")]


@pytest.mark.parametrize(
    "odd",
    [
        b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: TE\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n{}",
        b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: +2\r\n\r\n{}",
        b"POST /a HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n" + bytes(70_000),
        b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=lambda data: data[:80].decode(),
)
def test_a_request_that_is_not_the_only_one_or_not_whole_is_left_to_the_parser(odd: bytes) -> None:
    assert plain_request(odd, BOUNDS) is None


def test_most_of_the_usual_is_recognised_by_the_property_above() -> None:
    """That it compares anything at all."""
    assert plain_request(b"GET /a?b=%ff HTTP/1.1\r\nA: b\r\n" + SAFARI.partition(b"\r\n")[2], BOUNDS) is not None
