"""Requests: the bytes of HTTP, and what the whole application makes of requests and of WebSockets."""

import asyncio
import logging
import re
from collections.abc import Hashable
from random import Random
from typing import Any

import h11
import uvicorn
from uvicorn.server import ServerState

from freshet import Freshet, History
from freshet.config import Api, Config, Limits, Metrics, Rates, Timing, Tokens
from freshet.config.limits import RATES
from freshet.config.shapes import Rate
from freshet.runtime.server import HttpBounds, RunningServer
from freshet.session.outbox import Turn
from freshet.session.session import Session
from freshet.transports.http import BoundedHttp
from freshet.transports.lobby import Lobby
from freshet.transports.stream import Bodies, CutShort
from tests.fuzz.brokers import Loud, Nowhere, OneLoop
from tests.fuzz.codec import HEADER_WORDS
from tests.fuzz.grammar import cut, json_text, text, value
from tests.fuzz.harness import Target
from tests.fuzz.protocols import JSON_WORDS, lines, packets, query
from tests.tools.asgi import knock
from tests.tools.patience import seconds
from tests.tools.sessions import opened, say, taken

_on_loop = OneLoop()

# ----------------------------------------------------------------------------------------------------------------- HTTP

BOUNDS = HttpBounds(head_size=4096, url_size=1024, headers=20)
Request = tuple[bytes, bytes, bytes | None]


class _Http:
    """One connection to a server whose application says what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        server = RunningServer()
        server.http = BOUNDS
        config = uvicorn.Config(
            self._app, interface="asgi3", log_config=None, lifespan="off", server_header=False, date_header=False
        )
        config.load()
        state = ServerState()
        self.lobby = Lobby(lambda: len(state.connections))
        self.protocol = BoundedHttp(config, state, {}, lobby=self.lobby, server=server)
        self.state = state
        self.transport = Nowhere()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            body = await Bodies(0, Turn()).read(receive, 10_000)
        except CutShort:  # which is nothing, also where it is said while another input is read
            return
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        self.asked.append((scope["method"].encode(), target, body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


_ABSOLUTE = re.compile(rb"\A[a-z][a-z\d+.-]*://[^/]*", re.IGNORECASE)


def _by_another(data: bytes) -> list[Request]:
    """The requests as h11 reads them, until it refuses one."""
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    peer.receive_data(data)
    requests: list[Request] = []
    try:
        while True:
            event = peer.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                if peer.their_state is not h11.DONE or peer.our_state not in (h11.SEND_RESPONSE, h11.DONE):
                    return requests
                if peer.our_state is h11.SEND_RESPONSE:
                    peer.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                    peer.send(h11.EndOfMessage())
                if peer.our_state is not h11.DONE:
                    return requests
                peer.start_next_cycle()
            elif isinstance(event, h11.Request):
                requests.append((event.method, event.target, b""))
            elif isinstance(event, h11.Data):
                method, target, body = requests[-1]
                requests[-1] = (method, target, (body or b"") + event.data)
            elif isinstance(event, h11.ConnectionClosed):
                return requests
    except h11.RemoteProtocolError:
        return requests[:-1] if peer.their_state is h11.ERROR and requests else requests


async def _http(data: bytes) -> Hashable:
    http = _Http()
    protocol, transport = http.protocol, http.transport
    protocol.connection_made(transport)
    stream = data[1:]
    for piece in cut(stream, data[:1]):
        if transport.closed:
            break
        protocol.data_received(piece)
    for _ in range(50):
        await asyncio.sleep(0)
        if not http.state.tasks:
            break
    written = transport.written
    protocol.connection_lost(None)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not http.state.tasks, "the application still runs"
    heads = [part[:12] for part in written.split(b"HTTP/1.1 ") if part]
    assert not any(head.startswith(b"5") for head in heads), heads
    assert not written or written.startswith(b"HTTP/1.1 ")
    # What both this parser and another take for a whole request is one request: nothing is smuggled in.
    for ours, theirs in zip(http.asked, _by_another(stream), strict=False):
        assert ours[0] == theirs[0], (ours, theirs)
        assert ours[1] == _ABSOLUTE.sub(b"", theirs[1]).partition(b"#")[0].removesuffix(b"?"), (ours, theirs)
        assert ours[2] in (None, b"", theirs[2]), (ours, theirs)
    return tuple(head[:3] for head in heads[:4]), transport.closed, len(http.asked)


def run_http(data: bytes) -> Hashable:
    return _on_loop(_http(data))


def _request(chance: Random) -> bytes:
    method = chance.choice((b"GET", b"POST", b"POST", b"OPTIONS", b"get", b"CONNECT", b"PRI"))
    target = chance.choice(
        (b"/", b"/a?b=c", b"http://h/a", b"*", b"/%00%ff", b"/" + b"x" * 2000, b"/\xff", b"//a", b"h:80")
    )
    body = chance.choice((b"", b"{}", b"x" * 100))
    framing = chance.choice(
        (
            b"Content-Length: %d\r\n" % len(body),
            b"Content-Length: %d\r\n" % len(body),
            b"Transfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            b"Transfer-Encoding: xchunked\r\n",
            b"Transfer-Encoding : chunked\r\n",
            b"Transfer-Encoding:\x0bchunked\r\n",
            b"Content-Length: +3\r\n",
            b"Content-Length: 1\r\nContent-Length: 2\r\n",
            b"Content-Length: 99999999999999999999\r\n",
            b"",
        )
    )
    if b"chunked" in framing and chance.random() < 0.8:
        size = b"%x" % len(body)
        odd = chance.choice((b"", b"", b";a=b", b" ", b"\t", b"\n"))
        trailers = chance.choice((b"", b"", b"X: y\r\n", b"Content-Length: 5\r\n", b"a: b\r\n" * 200))
        body = size + odd + b"\r\n" + body + b"\r\n0\r\n" + trailers + b"\r\n" if body else b"0\r\n\r\n"
    more = b"".join(
        chance.choice((b"X", b"Connection", b"Expect", b"Cookie", b"Upgrade"))
        + chance.choice((b": ", b":", b": \t"))
        + chance.choice((b"y", b"close", b"keep-alive", b"100-continue", b"", b"a\x0bb", b"\xff", b"a\r\n b", b"h2c"))
        + chance.choice((b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"))
        for _ in range(chance.choice((0, 0, 1, 2, 21)))
    )
    hosts = chance.choice((b"Host: h\r\n", b"Host: h\r\n", b"Host: h\r\n", b"", b"Host: h\r\nHost: i\r\n"))
    version = chance.choice((b"1.1", b"1.1", b"1.1", b"1.0", b"2.0", b"0.9"))
    return method + b" " + target + b" HTTP/" + version + b"\r\n" + hosts + framing + more + b"\r\n" + body


def _requests(chance: Random) -> bytes:
    sizes = bytes((chance.choice((0, 1, 7, 100)),))
    return sizes + b"".join(_request(chance) for _ in range(chance.choice((1, 1, 2, 20))))


# ------------------------------------------------------------------------------------------------------ the application

_FREE = Rates(**{name: Rate(0, 1) for name in RATES})


_WAITS = re.compile(r"wait=[\d.]+")  # as long as it says


class _Application:
    """The whole server, and a client that hears what the others publish."""

    def __init__(self) -> None:
        self.live = Freshet(
            environment={},
            secret="a secret of at least thirty-two bytes, for HS256",
            config=Config(
                tokens=Tokens(anonymous=True),
                api=Api(anonymous=True),
                metrics=Metrics(anonymous=True),
                limits=Limits(connects_per_second=0, message_size=8192),
                rates=_FREE,
                timing=Timing(ping_interval=3600),  # which the client that hears the others does not answer
            ),
        )
        self.live.channel("log:{name}", history=History(size=5, ttl=60), publish="client", presence=True)
        self.live.channel("a", publish="client", history=History(size=5, ttl=60))
        self.witness: Session | None = None
        self.loud = Loud()

    async def ready(self) -> Freshet:
        if self.witness is None:
            self._lifespan = self.live.lifespan()
            await self._lifespan.__aenter__()
            logging.getLogger().addHandler(self.loud)
            self.witness = opened(self.live)
            await say(self.witness, {"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "a"}})
        return self.live

    async def check(self) -> None:
        """Nothing failed, and the other client still gets JSON, a message a line."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.loud.check()
        witness = self.witness
        assert witness is not None
        assert witness.outbox.closed is None
        taken(witness)


_application = _Application()


async def _doors(data: bytes) -> Hashable:
    """An URL with its method, headers, an empty line, and a body."""
    live = await _application.ready()
    head, _, body = data.partition(b"\n\n")
    first, *rest = head.decode("latin-1").split("\n")
    method, _, url = first.partition(" ")
    headers = {}
    for line in rest[:20]:
        name, colon, content = line.partition(": ")
        if colon and name.isascii() and content.isascii():  # others are refused by the server that is before it
            headers[name.lower()] = content
    if not (url.startswith("/") and url.isascii() and method.isascii()):
        return None
    if url.startswith("/connection/http_stream"):
        body = b'{"id":1,"connect":{}}\n' + body  # or nothing may come before the deadline for clients to connect
    url = _WAITS.sub("wait=0.01", url)
    try:
        answer = await knock(live, method.upper() or "GET", url, headers, body)
    except TimeoutError:
        assert method == "GET"
        assert url.startswith("/channels")
        return "waits"
    await _application.check()
    assert answer.status < 500 or answer.status == 503, answer
    return answer.status, answer.code, answer.body[:40] if answer.status >= 400 else b""


def run_doors(data: bytes) -> Hashable:
    return _on_loop(_doors(data))


_API = (
    "publish",
    "broadcast",
    "history",
    "presence",
    "presence_stats",
    "subscribe",
    "unsubscribe",
    "disconnect",
    "refresh",
    "info",
    "batch",
    "channels",
    "history_remove",
    "nothing",
)


def _headers(chance: Random, kind: int) -> list[str]:
    headers = [chance.choice(("Accept: text/event-stream", "Accept: */*")) for _ in range(kind < 2)]
    if chance.random() < 0.3:
        headers.append(f"Last-Event-ID: {chance.choice(('e:1', 'oldest', 'x', '9' * 5000))}")
    if chance.random() < 0.3:
        headers.append(
            chance.choice(
                (
                    "Content-Type: application/json",
                    "Content-Type: application/octet-stream",
                    "Authorization: Bearer a.b.c",
                )
            )
        )
    return headers


def _door(chance: Random) -> bytes:
    name = chance.choice(("a", "log:x", "%C3%A9", "%ED%A0%80", "a/b", "%00", "nobody", ""))
    asked = query(chance).decode()
    kind = chance.randrange(6)
    headers = _headers(chance, kind)
    body = b""
    if kind <= 1:
        line = f"{chance.choice(('GET', 'GET', 'POST', 'PUT', 'OPTIONS', 'HEAD'))} /channels/{name}?{asked}"
        body = json_text(chance) if line.startswith("POST") else b""
    elif kind == 2:
        line, body = f"POST /connection/http_stream?{asked}", lines(chance)
    elif kind == 3:
        line = "POST /emulation"
        body = json_text(chance, {"node": text(chance), "session": text(chance), "data": chance.choice(("{}", 7, "x"))})
    elif kind == 4:
        line = (
            chance.choice(("GET", "POST", "DELETE"))
            + f" /socket.io/?EIO={chance.choice('345')}&transport=polling&sid={name}"
        )
        body = packets(chance)
    else:
        method = chance.choice(_API)
        line = f"POST /api/{method}"
        given = {
            "channel": chance.choice(("a", "log:x", "nobody")),
            "data": value(chance),
            "channels": ["a", text(chance)],
            "user": text(chance),
            "limit": 5,
        }
        given |= {
            "b64data": "AQID",
            "tags": {"event": text(chance)},
            "since": {"offset": chance.choice((1, 2**63, -1)), "epoch": "e"},
            "commands": [{"publish": {"channel": "a", "data": 1}}],
        }
        chosen = {key: given[key] for key in given if chance.random() < 0.4}
        body = json_text(chance, chosen)
    return "\n".join([line.replace("\n", ""), *headers]).encode() + b"\n\n" + body


# ----------------------------------------------------------------------------------------------------------- WebSockets

URLS = [
    "/connection/websocket",
    "/connection/websocket?format=protobuf",
    "/channels/a",
    "/channels/log:x?since=oldest",
    "/socket.io/?EIO=4&transport=websocket",
]
FRAME = b"\x00\xfe"
_FIRST: list[Any] = [
    b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"log:x"}}',
    b"\x04\x08\x01\x22\x00",
    b"hello",
    b"",
    b"40",
]


async def _sockets(data: bytes) -> Hashable:
    """A byte that chooses the URL, and messages; one that is no UTF-8 is sent as bytes."""
    live = await _application.ready()
    number = (data[0] if data else 0) % len(URLS)
    frames = [each for each in (_FIRST[number], *data[1:].split(FRAME)[:20]) if each]
    sent: list[Any] = []
    coming: asyncio.Queue[Any] = asyncio.Queue()
    coming.put_nowait({"type": "websocket.connect"})
    for each in frames:
        try:
            coming.put_nowait({"type": "websocket.receive", "text": each.decode()})
        except UnicodeDecodeError:
            coming.put_nowait({"type": "websocket.receive", "bytes": each})

    async def receive() -> Any:
        if coming.empty():
            for _ in range(6):
                await asyncio.sleep(0)
            return {"type": "websocket.disconnect", "code": 1001}
        return coming.get_nowait()

    async def send(message: Any) -> None:
        sent.append(message)

    path, _, asked = URLS[number].partition("?")
    scope: dict[str, Any] = {
        "type": "websocket",
        "path": path,
        "root_path": "",
        "query_string": asked.encode(),
        "headers": [(b"host", b"h")],
    }
    scope |= {"subprotocols": [], "scheme": "ws", "extensions": {}, "client": ("192.0.2.1", 1), "server": ("h", 80)}
    async with asyncio.timeout(seconds(20)):
        await live(scope, receive, send)
    await _application.check()
    closed = [each["code"] for each in sent if each["type"] == "websocket.close"]
    assert not closed or 1000 <= closed[0] < 5000
    assert 1011 not in closed
    replies = [each.get("text", "b")[:24] for each in sent if each["type"] == "websocket.send"]
    return number, closed[0] if closed else None, tuple("error" in each for each in replies[-3:])


def run_sockets(data: bytes) -> Hashable:
    return _on_loop(_sockets(data))


def _messages(chance: Random) -> bytes:
    number = chance.randrange(len(URLS))
    if number == 0:
        parts = [lines(chance) for _ in range(chance.choice((1, 2)))]
    elif number == 4:
        parts = [each.encode("latin-1") for each in packets(chance).decode("latin-1").split("\x1e")]
    else:
        parts = [json_text(chance) for _ in range(chance.randrange(3))]
    return bytes((number,)) + FRAME.join(parts)


TARGETS = [
    Target(
        "http",
        run_http,
        _requests,
        [*HEADER_WORDS, b"chunked", b"0\r\n\r\n", b"Content-Length: ", b"Transfer-Encoding: "],
        fixed=0.02,
        each=2e-6,
        swells=400,
    ),
    Target(
        "doors",
        run_doors,
        _door,
        [*JSON_WORDS, b"/channels/", b"/api/", b"/socket.io/", b"\n\n", b": "],
        fixed=0.05,
        each=4e-6,
        swells=1000,
    ),
    Target(
        "sockets", run_sockets, _messages, [*JSON_WORDS, FRAME, b"42", b'"id":3,'], fixed=0.05, each=4e-6, swells=1000
    ),
]
