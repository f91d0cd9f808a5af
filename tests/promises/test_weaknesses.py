"""Weaknesses that were published of other servers, tried on every door of ours, before and after a client is known.

The rest are tried where their mechanism is tested: `tests/tools/weaknesses.py` has the list, and writes its page.
"""

import ast
import asyncio
import os
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from freshet.websocket.deflate import compress
from freshet.websocket.frames import Opcode, encode
from tests.promises.test_hostile import still_serves
from tests.tools.clients import CONFIG, soon, token
from tests.tools.memory import MIB, grows_by_less_than
from tests.tools.need import ROOT
from tests.tools.serving import UNLIMITED, Server, serving
from tests.tools.weaknesses import LISTED, PAGE, functions_of, with_table

SOCKETS = {
    "centrifuge": ("/connection/websocket", [b'{"id":1,"connect":{"token":"%b"}}']),
    "protobuf": ("/connection/websocket?format=protobuf", []),
    "channel": ("/channels/room?token=%b", [b"hello"]),
    "socket.io": ("/socket.io/?EIO=4&transport=websocket", [b'40{"token":"%b"}']),
}
# Those of other kinds of sessions, which have the same frames before them.
OTHERS = {
    "gateway": ("/dev?token=%b", []),
    "admin": ("/admin/connection/websocket", [b'{"id":1,"connect":{"data":{"key":"the key of operators"}}}']),
}
GATEWAY = '[gateway]\nstage = "dev"\nroutes = [{ key = "$default", mock = "1" }]\n'
POSTS = [
    "/connection/http_stream",
    "/emulation",
    "/channels/room",
    "/socket.io/?EIO=4&transport=polling",
    "/api/publish",
]
URLS = [
    *(path.partition("?")[0] for path, _ in (*SOCKETS.values(), *OTHERS.values())),
    *POSTS,
    "/connection/sse",
    "/metrics",
    "/health/live",
]
URLS = sorted(set(URLS))
MASK = b"\x37\xfa\x21\x3d"

door = pytest.mark.parametrize("door", SOCKETS)
known = pytest.mark.parametrize("known", [False, True], ids=["before", "after"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("weaknesses") / "freshet.toml"
    text = CONFIG + "\n[limits]\nconnects_per_second = 0\n[websocket]\ncompression = true\n" + GATEWAY + UNLIMITED
    config.write_text(text)  # all of them get in, and say all they like; every other limit is the default
    with serving("--config", str(config), env={"FRESHET_ADMIN_KEY": "the key of operators"}) as server:
        yield server


def head(path: str, *lines: bytes) -> bytes:
    """A request for a WebSocket."""
    return b"\r\n".join(
        [
            b"GET %b HTTP/1.1" % path.replace("%b", token()).encode(),
            b"Host: x",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *lines,
            b"\r\n",
        ]
    )


def masked(opcode: int, data: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    return encode(Opcode(opcode), data, mask=MASK, fin=fin, rsv1=rsv1)


@asynccontextmanager
async def connection(
    server: Server, request: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def status(server: Server, request: bytes) -> int:
    """Of the answer; 0: there is none."""
    async with connection(server, request) as (reader, _):
        line = b""
        with suppress(ConnectionError):
            line = await soon(reader.readline())
    return int(line[9:12]) if line.startswith(b"HTTP/1.1 ") else 0


async def closed(server: Server, door: str, frames: bytes, *lines: bytes, known: bool) -> int:
    """The code with which a WebSocket is closed after these frames. known: its client has connected before."""
    path, connecting = {**SOCKETS, **OTHERS}[door]
    async with connection(server, head(path, *lines)) as (reader, writer):
        assert (await soon(reader.readuntil(b"\r\n\r\n"))).startswith(b"HTTP/1.1 101")
        if known:
            for text in connecting:
                writer.write(masked(1, text.replace(b"%b", token().encode())))
                await soon(reader.read(10_000))
        writer.write(frames)
        answer = b""
        with suppress(ConnectionError):
            answer = await soon(reader.read())
    at = answer.rfind(b"\x88")
    return int(struct.unpack("!H", answer[at + 2 : at + 4])[0]) if at >= 0 else 0


DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate"


@door
@known
async def test_a_compression_bomb_is_not_inflated(server: Server, door: str, known: bool) -> None:
    """CVE-2016-10544, CVE-2018-1000518, CVE-2026-27571."""
    bomb = compress(bytes(32 * MIB))
    assert len(bomb) < 60_000 * 3
    frames = masked(2, bomb[:60_000], rsv1=True)
    with grows_by_less_than(server, 16 * MIB):
        codes = {await closed(server, door, frames, DEFLATE, known=known) for _ in range(10)}
    assert codes <= {1007, 1009}
    await still_serves(server)


@door
@known
async def test_a_frame_that_claims_compression_that_nobody_agreed_on_is_refused(
    server: Server, door: str, known: bool
) -> None:
    """aiohttp, pull request 12976."""
    assert await closed(server, door, masked(2, compress(b"a"), rsv1=True), known=known) == 1002


@door
@known
@pytest.mark.parametrize(
    ("length", "code"), [(2**31, 1009), (2**63 - 1, 1009), (2**63, 1002), (2**64 - 1, 1002)], ids=str
)
async def test_a_length_that_overflows_passes_no_limit(
    server: Server, door: str, known: bool, length: int, code: int
) -> None:
    """CVE-2020-27813, CVE-2026-27889; with a pong between, which once set the count of another server back."""
    frame = b"\x82\xff" + length.to_bytes(8, "big") + MASK
    assert await closed(server, door, frame + b"x" * 10, known=known) == code
    interrupted = masked(2, b"x", fin=False) + masked(10) + b"\x80" + frame[1:]
    assert await closed(server, door, interrupted, known=known) == code


@door
@known
async def test_what_is_too_large_is_refused_by_the_defaults_however_it_comes(
    server: Server, door: str, known: bool
) -> None:
    """CVE-2016-10542, CVE-2026-44545: whole, in fragments, in a frame that is never complete, and in tiny fragments."""
    whole = masked(2, bytes(12 * MIB))
    fragments = masked(2, bytes(60_000), fin=False) + masked(0, bytes(60_000), fin=False) * 400
    tiny = masked(2, b"x", fin=False) + masked(0, b"x", fin=False) * 131_000
    never = b"\x82\xff" + (32 * MIB).to_bytes(8, "big") + MASK + b"x" * 100
    with grows_by_less_than(server, 24 * MIB):  # a frame may hold the commands of all channels of a client
        for frames in (whole, fragments, tiny, never):
            assert await closed(server, door, frames, known=known) in (0, 1009)  # 0: reset, as it still wrote
    await still_serves(server)


BROKEN = [
    (b"\x81\x02{}", 1002),
    (b"\xf1\x80\0\0\0\0", 1002),
    (b"\x83\x80\0\0\0\0", 1002),
    (b"\x80\x80\0\0\0\0", 1002),
    (b"\x09\x80\0\0\0\0", 1002),
    (b"\x89\xfe\x00\x7e\0\0\0\0" + bytes(126), 1002),
    (b"\x88\x82\0\0\0\0\x03\xed", 1002),
    (b"\x81\x82\0\0\0\0\xff\xff", 1007),
    (b"\x01\x82\0\0\0\0\xed\xa0\x80\x81\0\0\0\0\x80", 1007),
]


@door
@known
@pytest.mark.parametrize(("frames", "code"), BROKEN)
async def test_a_broken_frame_ends_its_client_alone(
    server: Server, door: str, known: bool, frames: bytes, code: int
) -> None:
    """CVE-2022-21676, CVE-2022-41940, CVE-2024-38355: of others, it ended the process."""
    assert await closed(server, door, frames, known=known) == code


@pytest.mark.parametrize("other", OTHERS)
@known
async def test_the_sockets_of_other_sessions_let_none_of_this_pass_either(
    server: Server, other: str, known: bool
) -> None:
    tiny = masked(2, b"x", fin=False) + masked(0, b"x", fin=False) * 20_000
    bomb = masked(2, compress(bytes(32 * MIB))[:60_000], rsv1=True)
    lengths = [(2**31, 1009), (2**63 - 1, 1009), (2**63, 1002), (2**64 - 1, 1002)]
    overflows = [(b"\x82\xff" + length.to_bytes(8, "big") + MASK + b"x", code) for length, code in lengths]
    with grows_by_less_than(server, 16 * MIB):
        for frames, code in [*BROKEN, *overflows, (masked(2, compress(b"a"), rsv1=True), 1002), (tiny, 1009)]:
            assert await closed(server, other, frames, known=known) == code, frames[:20]
        assert await closed(server, other, bomb, DEFLATE, known=known) in (1002, 1007, 1009)
    await still_serves(server)


@pytest.mark.parametrize("begun", ["centrifuge", "protobuf", "socket.io", "stream"])
async def test_who_never_says_who_it_is_is_closed(tmp_path: Path, begun: str) -> None:
    config = tmp_path / "freshet.toml"
    config.write_text(CONFIG + "\n[timing]\nconnect_timeout = 0.5\nclose_timeout = 0.2\n")
    with serving("--config", str(config)) as server:
        if begun != "stream":
            assert await closed(server, begun, masked(10), known=False) >= 3000
            return
        body = b"{}"
        post = b"POST /connection/http_stream HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        async with connection(server, post + body) as (reader, _):
            await soon(reader.readuntil(b'{"push":{"disconnect":{"code":350'))


@pytest.mark.parametrize("path", POSTS)
async def test_a_body_that_is_too_large_is_not_read(server: Server, path: str) -> None:
    """CVE-2020-36048: 100 MB by long polling. Declared, and in chunks without an end."""
    post = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n" % path.encode()
    chunks = b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 200
    with grows_by_less_than(server, 40 * MIB):  # /emulation may bring the commands of all channels of a client
        for request in (post + b"Content-Length: 100000000\r\n\r\n" + b"x" * (12 * MIB), post + chunks):
            assert await status(server, request) in (0, 400, 401, 413)
    await still_serves(server)


@door
async def test_pongs_and_pings_start_nothing(server: Server, door: str) -> None:
    """CVE-2026-48802 (a task for each pong), CVE-2026-34824 (a thread for each message), before anybody is known."""
    threads = len(os.listdir(f"/proc/{server.pid}/task"))  # noqa: PTH208
    path, _ = SOCKETS[door]
    async with connection(server, head(path)) as (reader, writer):
        await soon(reader.readuntil(b"\r\n\r\n"))
        with grows_by_less_than(server, 8 * MIB):
            writer.write(masked(10, b"a") * 20_000 + masked(9, b"b") * 2000)
            if door == "socket.io":
                writer.write(masked(1, b"3") * 10_000)
            await soon(reader.readuntil(b"\x8a\x01b"))
            assert len(os.listdir(f"/proc/{server.pid}/task")) <= threads + 1  # noqa: PTH208
    await still_serves(server)


async def test_half_a_binary_event_is_gone_with_its_client(server: Server) -> None:
    """CVE-2026-48804: attachments that were kept after the disconnect."""
    begun = masked(1, b'452-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')

    async def leave() -> None:
        async with connection(server, head(SOCKETS["socket.io"][0])) as (reader, writer):
            await soon(reader.readuntil(b"\r\n\r\n"))
            writer.write(masked(1, b'40{"token":"%b"}' % token().encode()))
            await soon(reader.readuntil(b"40{"))
            writer.write(begun + masked(2, bytes(60_000)))
            await writer.drain()

    await asyncio.gather(*(leave() for _ in range(20)))  # what the first ones allocate stays for the next
    with grows_by_less_than(server, 6 * MIB):  # of 12 MB of attachments
        for _ in range(8):
            await asyncio.gather(*(leave() for _ in range(25)))
    await still_serves(server)


# ---------------------------------------------------------------------------------------------------------------- heads


@pytest.mark.parametrize("path", URLS)
@pytest.mark.parametrize("upgrade", [False, True], ids=["http", "websocket"])
async def test_two_thousand_headers_are_refused_everywhere(server: Server, path: str, upgrade: bool) -> None:
    """CVE-2024-37890, and CVE-2025-67725: repeated, which are joined."""
    for lines in ([b"h%d: x" % number for number in range(2000)], [b"h: x"] * 2000):
        request = head(path, *lines)
        if not upgrade:
            request = request.replace(b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"")
        assert await status(server, request) == 431
    await still_serves(server)


@door
@pytest.mark.parametrize(
    "value",
    [b"b" + b" " * 30_000 + b"x", b"\xff\xfe", "é☃".encode(), b"a\x0bb", b"a\x1cb", b"a\x85b", b"a," * 10_000],
    ids=["spaces", "bytes", "unicode", "VT", "FS", "NEL", "many"],
)
async def test_a_subprotocol_that_is_none_is_refused(server: Server, door: str, value: bytes) -> None:
    """CVE-2021-32640 (spaces), CVE-2026-42544 (what is not ASCII), CVE-2026-44546 (line ends of Unicode)."""
    assert await status(server, head(SOCKETS[door][0], b"Sec-WebSocket-Protocol: " + value)) == 400
    await still_serves(server)


@door
async def test_a_handshake_of_many_megabytes_costs_none(server: Server, door: str) -> None:
    """CVE-2023-43669."""
    with grows_by_less_than(server, 4 * MIB):
        for line in (b"X: " + b"x" * (8 * MIB), b"X" * (8 * MIB)):
            assert await status(server, head(SOCKETS[door][0], line)) in (0, 431)
    await still_serves(server)


@pytest.mark.parametrize("path", [*POSTS, "/health/live"])
@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Content-Length: +4\r\n",
        b"Content-Length: 4, 5\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Host: other\r\n",
    ],
)
async def test_a_request_that_two_parsers_could_read_differently_is_refused(
    server: Server, path: str, framing: bytes
) -> None:
    """CVE-2024-52304, CVE-2025-53643, CVE-2026-34525: smuggling, and a second Host."""
    request = b"POST %b HTTP/1.1\r\nHost: x\r\n%b\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    assert await status(server, request % (path.encode(), framing)) in (0, 400)  # 0: closed, in the body


@pytest.mark.parametrize(
    "path", [*URLS, "/", "/admin/", "/api/", "/api/openapi.json", "/nothing", "/dev/@connections/x"]
)
async def test_no_answer_sets_a_cookie_or_says_what_is_running(server: Server, path: str) -> None:
    """A session of ours is never in a cookie, which a browser would attach to what another page asks for."""
    for method in ("GET", "POST", "OPTIONS"):
        request = b"%b %b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        async with connection(server, request % (method.encode(), path.encode())) as (reader, _):
            answer = (await soon(reader.readuntil(b"\r\n\r\n"))).lower()
        names = {line.partition(b":")[0] for line in answer.split(b"\r\n")[1:]}
        assert not names & {b"set-cookie", b"server", b"x-powered-by"}
        if b"text/html" in answer:
            assert {b"content-security-policy", b"x-content-type-options", b"referrer-policy"} <= names


# ------------------------------------------------------------------------------------------------------------- the code


def test_nothing_that_comes_from_elsewhere_can_be_run() -> None:
    """CVE-2025-61765: what comes from a broker was unpickled."""
    running = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    for path in (ROOT / "src" / "freshet").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not running & {name.partition(".")[0] for name in names}, path
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            assert called not in ("eval", "exec", "__import__"), path
            loader = node.attr if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "yaml" else ""
            assert not loader.endswith("Loader") or loader == "SafeLoader", path  # YAML makes objects otherwise


def test_secrets_are_compared_in_constant_time() -> None:
    """CVE-2021-33880. Tokens are compared by PyJWT, with `compare_digest` as well."""
    for path in ("api/http.py", "ops/metrics.py"):
        tree = ast.parse((ROOT / "src" / "freshet" / path).read_text())
        compared = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
        assert not any(
            isinstance(op, ast.Eq | ast.NotEq) and "_key" in ast.unparse(node) for node in compared for op in node.ops
        )
        assert "hmac.compare_digest" in ast.unparse(tree)


# ------------------------------------------------------------------------------------------------------------- the page


def test_every_weakness_of_the_list_has_its_tests() -> None:
    known = {path: functions_of(path) for weakness in LISTED for path, _ in weakness.tests}
    missing = [test for weakness in LISTED for test in weakness.tests if test[1] not in known[test[0]]]
    assert missing == []
    assert all(weakness.tests for weakness in LISTED)


def test_the_page_of_weaknesses_is_current() -> None:
    page = PAGE.read_text()
    assert page == with_table(page), "run python -m tests.tools.weaknesses --write"
