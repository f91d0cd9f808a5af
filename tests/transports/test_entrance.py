"""The short way in of WebSockets: when it is taken, and that nothing is different behind it."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope
from uvicorn.server import ServerState
from websockets.asyncio.client import connect

from freshet import Freshet, Handshake
from freshet.config import Config, WebSocket
from freshet.config.listening import Http
from freshet.runtime.server import HttpBounds, RunningServer
from freshet.transports.entrance import Entrance
from freshet.transports.lobby import Lobby
from freshet.transports.native import SessionSocket
from freshet.websocket.handshake import check_response, client_request
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server, serving
from tests.transports.shells import WebSocketLink
from tests.transports.sockets import Peer, joined
from tests.transports.test_plain import DOUBTFUL, FIREFOX, SAFARI

UPGRADE = client_request("localhost", "/connection/websocket")[0]
CONNECT = b'{"id":1,"connect":{}}'


class Uvicorn:
    """What gets all that is not taken."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def go_on(self, transport: asyncio.Transport, data: bytes, deadline: float) -> None:
        self.got.append(data)
        transport.close()


class Refuses:
    def accept(self, scope: Scope) -> Response:
        return Response(None, 429)

    def reply(self, scope: Scope, receive: Receive) -> Response:
        return Response(None, 429)


class Served:
    """An entrance in this process. long_way: what was passed on."""

    def __init__(self, live: Freshet | None, room: int = 100) -> None:
        self.state, self.server, self.long_way = ServerState(), RunningServer(), Uvicorn()
        self.state.default_headers = [(b"x-server", b"ours")]
        self.connections = cast("set[asyncio.Protocol]", self.state.connections)
        self.lobby = Lobby(lambda: len(self.connections), room)
        if live is not None:
            self.server.app = live
            live._direct.open(self.server)

    @asynccontextmanager
    async def come(self, deflate: bool = False) -> AsyncIterator[Peer]:
        entrance = Entrance(lambda: self.long_way, self.state, self.lobby, self.server)
        async with joined(entrance, deflate=deflate) as (_, peer):
            yield peer


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    live = Freshet(dev=True, environment={})
    async with live.lifespan():
        yield live
    assert list(live._node.registry) == []


async def test_a_plain_websocket_is_accepted_and_carried(live: Freshet) -> None:
    served = Served(live)
    request, key = client_request("localhost", "/connection/websocket", subprotocol="centrifuge-json")
    async with served.come() as peer:
        await peer.write(request)
        headers = dict(check_response(await peer.head() + b"\r\n\r\n", key))
        assert headers[b"x-server"] == b"ours"
        assert all(isinstance(each, SessionSocket) for each in served.connections)
        await peer.send(CONNECT)
        assert b'"connect":{"client"' in (await peer.texts(1))[0]
    await eventually(lambda: not served.connections)
    assert served.long_way.got == []


async def test_what_comes_is_passed_on_unread_unless_it_is_plain(live: Freshet) -> None:
    for head in (b"G", UPGRADE[:-1], UPGRADE + b"\x81", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"):
        served = Served(live)
        async with served.come() as peer:
            await peer.write(head)
            assert await peer.ended()
        assert served.long_way.got == [head]
        assert not served.connections


async def test_without_an_application_that_has_opened_it_there_is_no_short_way(live: Freshet) -> None:
    served = Served(None)
    live._direct.open(served.server)  # which another application serves
    async with served.come() as peer:
        await peer.write(UPGRADE)
        assert await peer.ended()
    assert (served.long_way.got, served.server.direct) == ([UPGRADE], {})


async def test_it_is_closed_with_the_application() -> None:
    live = Freshet(dev=True, environment={})
    served = Served(live)
    assert list(served.server.direct) == [""]
    live._direct.close(served.server)
    assert served.server.direct == {}


@pytest.mark.parametrize("path", ["/nowhere", "/dev", "/admin/socket", "/live/connection/websocket"])
async def test_a_path_that_cannot_do_without_asgi_goes_the_long_way(live: Freshet, path: str) -> None:
    served = Served(live)
    request = client_request("localhost", path)[0]
    async with served.come() as peer:
        await peer.write(request)
        assert await peer.ended()
    assert served.long_way.got == [request]


async def test_when_it_is_full_the_long_way_says_so(live: Freshet) -> None:
    served = Served(live, room=1)
    async with served.come() as peer:
        await peer.write(UPGRADE)
        await peer.head()
        async with served.come() as other:
            await other.send(b"")  # whatever it is
        async with served.come() as other:
            await peer.send(CONNECT)
            await peer.texts(1)  # it is no guest any more
            await other.write(UPGRADE)
            assert await other.ended()
    assert served.long_way.got[-1] == UPGRADE


async def test_a_refusal_is_answered_and_ends_the_connection(live: Freshet) -> None:
    served = Served(live)
    request = client_request("localhost", "/connection/websocket", [(b"Origin", b"https://evil.example")])[0]
    async with served.come() as peer:
        await peer.write(request)
        status, head, body = await peer.response()
    assert (status, b"origins" in body, b"connection: close" in head) == (403, True, True)
    assert served.long_way.got == []


async def test_whoever_asks_for_nothing_is_closed_in_time() -> None:
    served = Served(None)
    served.server.http = HttpBounds(head_timeout=0.01)
    async with served.come() as peer:
        assert await peer.ended()
    assert not served.connections


async def test_when_the_server_ends_who_asks_for_nothing_is_closed() -> None:
    served = Served(None)
    async with served.come() as peer:
        for each in list(served.connections):
            cast(Entrance, each).shutdown()
        assert await peer.ended()


async def test_a_mistake_of_ours_is_a_500_and_no_more(live: Freshet, caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Refuses):
        def accept(self, scope: Scope) -> Response:
            raise RuntimeError("a mistake")

    served = Served(None)
    served.server.direct[""] = Fails()
    async with served.come() as peer:
        await peer.write(UPGRADE)
        status, _, body = await peer.response()
    assert (status, body) == (500, b"Internal Server Error")
    assert "a mistake" in caplog.text


async def test_a_response_may_have_no_text() -> None:
    served = Served(None)
    served.server.direct[""] = Refuses()
    async with served.come() as peer:
        await peer.write(UPGRADE)
        assert (await peer.response())[0] == 429


async def test_who_offers_compression_gets_it_where_it_is_on() -> None:
    live = Freshet(dev=True, environment={}, config=Config(websocket=WebSocket(compression=True)))
    async with live.lifespan():
        request, key = client_request("localhost", "/connection/websocket", deflate=True)
        async with Served(live).come(deflate=True) as peer:
            await peer.write(request)
            headers = dict(check_response(await peer.head() + b"\r\n\r\n", key))
            assert b"permessage-deflate" in headers[b"sec-websocket-extensions"]
            await peer.send(CONNECT)
            assert b'"connect":{"client"' in (await peer.texts(1))[0]


async def test_a_hook_sees_the_request(live: Freshet) -> None:
    saw: list[Handshake] = []

    @live.on_connect
    def look(session: object, request: Handshake) -> None:
        saw.append(request)

    request = client_request("localhost", "/channels/caf%C3%A9?a=1&a=2", [(b"X-Trace", b"\xe9")])[0]
    async with Served(live).come() as peer:
        await peer.write(request)
        await peer.head()
        await eventually(lambda: bool(saw))
    assert (saw[0].path, saw[0].query, saw[0].headers["x-trace"]) == ("/channels/café", {"a": "2"}, "é")


async def test_a_session_goes_on_with_the_trace_of_the_request(live: Freshet, monkeypatch: pytest.MonkeyPatch) -> None:
    within: list[bool] = []

    class Traced:
        def __enter__(self) -> None:
            within.append(True)

        def __exit__(self, *_: object) -> None:
            within.append(len(list(live._node.registry)) == 1)  # it was opened in between

    served = Served(live)
    monkeypatch.setattr(live._direct, "_traced", lambda scope: Traced())
    async with served.come() as peer:
        await peer.write(UPGRADE)
        await peer.head()
        assert within == [True, True]


# ------------------------------------------------------------------------------------------- requests that are answered


class Answers:
    """An application whose answer is what the test says. asked: how often it was."""

    def __init__(self) -> None:
        self.asked = 0
        self.gone = False
        self.answer: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()

    def accept(self, scope: Scope) -> bool:
        return False

    def reply(self, scope: Scope, receive: Receive) -> Coroutine[Any, Any, Response | None]:
        self.asked += 1
        return self._reply(receive)

    async def _reply(self, receive: Receive) -> Response | None:
        assert (await receive())["body"] in (b"", b"1")
        reading = asyncio.ensure_future(receive())
        await asyncio.wait((self.answer, reading), return_when=asyncio.FIRST_COMPLETED)
        self.gone = reading.done() and reading.result()["type"] == "http.disconnect"
        reading.cancel()
        return self.answer.result() if self.answer.done() else None


GET = b"GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n1"


def answering() -> tuple[Served, Answers]:
    served, application = Served(None), Answers()
    served.server.direct[""] = application
    return served, application


async def test_one_plain_request_after_the_other_is_answered_on_a_connection(live: Freshet) -> None:
    served = Served(live)
    async with served.come() as peer:
        other = GET.replace(b"/a", b"/b")  # what is sent again is known, what differs by a byte is another
        for request, offset in ((POST, 1), (GET, 1), (GET, 1), (POST, 2), (POST, 3), (GET, 3), (other, 0), (GET, 3)):
            await peer.write(request)
            head, _, body = (await peer.read()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"x-server: ours" in head
            assert json.loads(body)["offset"] == offset
        assert len(served.connections) == 1
        odd = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await peer.write(odd)
        assert await peer.ended()
    assert served.long_way.got == [odd]


async def test_a_request_that_comes_while_one_is_answered_waits() -> None:
    served, application = answering()
    async with served.come() as peer:
        await peer.write(GET)
        await eventually(lambda: application.asked == 1)
        await peer.write(GET)
        await peer.write(b"G" + GET)
        await asyncio.sleep(0)
        application.answer.set_result(Response(b"one"))
        assert (await peer.read()).endswith(b"one")
        assert await peer.ended()
    assert (application.asked, served.long_way.got) == (1, [GET + b"G" + GET])


async def test_the_end_of_a_client_that_waits_is_noticed() -> None:
    served, application = answering()
    async with served.come() as peer:
        await peer.write(GET)
        await eventually(lambda: application.asked == 1)
    await eventually(lambda: application.gone)
    await eventually(lambda: not served.state.tasks and not served.connections)


async def test_a_connection_for_one_request_ends_with_its_answer(live: Freshet) -> None:
    served = Served(live)
    async with served.come() as peer:
        await peer.write(GET.replace(b"Host:", b"Connection: close\r\nHost:"))
        status, head, _ = await peer.response()
    assert (status, b"connection: close" in head, served.long_way.got) == (200, True, [])


async def test_when_the_server_ends_a_request_is_answered_and_its_connection_closed() -> None:
    served, application = answering()
    async with served.come() as peer:
        await peer.write(GET)
        await eventually(lambda: application.asked == 1)
        for each in list(served.connections):
            cast(Entrance, each).shutdown()
        application.answer.set_result(Response(b"one"))
        status, head, body = await peer.response()
    assert (status, b"connection: close" in head, body) == (200, True, b"one")


@pytest.mark.parametrize("mistake", [RuntimeError("a mistake"), "a header"], ids=str)
async def test_a_mistake_in_an_answer_is_a_500_and_no_more(
    mistake: Exception | str, caplog: pytest.LogCaptureFixture
) -> None:
    served, application = answering()
    if isinstance(mistake, Exception):
        application.answer.set_exception(mistake)
    else:
        application.answer.set_result(Response(b"one", headers={"x": "a\r\nb: c"}))
    async with served.come() as peer:
        await peer.write(GET)
        assert (await peer.head()).startswith(b"HTTP/1.1 500 ")
    assert "a request failed" in caplog.text


async def test_who_asks_for_nothing_more_is_closed_in_time() -> None:
    served, application = answering()
    served.server.http = HttpBounds(keep_alive=0.01)
    application.answer.set_result(Response(b"one"))
    async with served.come() as peer:
        await peer.write(GET)
        assert (await peer.read()).endswith(b"one")
        assert await peer.ended()


def test_an_idle_connection_outlasts_the_proxy_that_keeps_it() -> None:
    """Else a request meets a connection that is being closed, and its client gets 502."""
    nginx = aws_load_balancer = 60
    for default in (Http().keep_alive, HttpBounds().keep_alive):
        assert default > max(nginx, aws_load_balancer)


async def test_who_takes_nothing_of_an_answer_is_cut_and_who_takes_it_slowly_is_not() -> None:
    for takes in (False, True):
        served, application = answering()
        served.server.http = HttpBounds(keep_alive=0.01, body_timeout=seconds(1.5) if takes else 0.01)
        application.answer.set_result(Response(bytes(400_000)))
        refused: list[str] = []
        served.server.refused = refused.append
        async with served.come() as peer:
            await peer.write(GET)
            size = len(await peer.read())
            if not takes:
                await eventually(lambda served=served: not served.connections)  # type: ignore[misc]
                assert refused == ["http"]
                continue
            began = asyncio.get_running_loop().time()
            while size < 400_000:  # far longer than it may stay without asking for more
                size += len(await peer.read())
                if asyncio.get_running_loop().time() - began < seconds(2):
                    await asyncio.sleep(seconds(0.2))
            assert refused == []
            assert await peer.ended()


async def test_who_does_not_read_the_answers_gets_no_more_of_them() -> None:
    served, application = answering()
    application.answer.set_result(Response(bytes(1 << 20)))
    async with served.come() as peer:
        await peer.write(GET)
        first = await peer.read()
        await peer.write(GET)
        for _ in range(10):
            await asyncio.sleep(0)
        assert application.asked == 1
        size = len(first)
        while size < 1 << 20:
            size += len(await peer.read())
        await eventually(lambda: application.asked == 2)


# ------------------------------------------------------------------------------------------------- real servers, both


def said(server: Server, data: bytes) -> bytes:
    """The head of the answer, without what differs from time to time."""
    with socket.create_connection((server.host, server.port), seconds(5)) as end:
        end.settimeout(seconds(5))
        end.sendall(data)
        answer = b""
        while b"\r\n\r\n" not in answer and (chunk := end.recv(1 << 16)):
            answer += chunk
    return re.sub(rb"(?i)\r\n(date|retry-after): [^\r]*", b"", answer.partition(b"\r\n\r\n")[0])


OTHERS = {
    "Firefox": FIREFOX,
    "Safari": SAFARI.replace(b"https://example.org", b"http://127.0.0.1").replace(b"example.org", b"127.0.0.1"),
    "a foreign page": SAFARI.replace(b"https://example.org", b"https://evil.example"),
    "no such path": SAFARI.replace(b"/channels/news", b"/nowhere"),
    "a subprotocol": SAFARI.replace(b"Host:", b"Sec-WebSocket-Protocol: freshet, freshet.token.a\r\nHost:"),
    "a subprotocol that is none": SAFARI.replace(b"Host:", b"Sec-WebSocket-Protocol: a b\r\nHost:"),
    "many subprotocols": SAFARI.replace(b"Host:", b"Sec-WebSocket-Protocol: " + b"a," * 40 + b"a\r\nHost:"),
    "a strange extension": SAFARI.replace(
        b"permessage-deflate", b"x; y=z, permessage-deflate; server_max_window_bits=8"
    ),
    "Socket.IO without a version": SAFARI.replace(b"/channels/news?", b"/socket.io/?transport=websocket&"),
    "Socket.IO of an unknown session": SAFARI.replace(
        b"/channels/news?", b"/socket.io/?EIO=4&transport=websocket&sid=none.x&"
    ),
    "an encoded path": SAFARI.replace(b"/channels/news", b"/%63hannels/%2e%2e/news"),
    "a path with dots": SAFARI.replace(b"/channels/news", b"/channels/../channels/news"),
    "two slashes": SAFARI.replace(b"/channels/news", b"//channels/news"),
    "a page of a channel": GET.replace(b"/a", b"/log:a?limit=1"),
    "a page for a script": GET.replace(b"/a", b"/log:a").replace(b"\r\n\r\n", b"\r\nOrigin: http://localhost\r\n\r\n"),
    "a page for a foreign script": GET.replace(b"\r\n\r\n", b"\r\nOrigin: https://evil.example\r\n\r\n"),
    "a page, and nothing more": GET.replace(b"Host:", b"Connection: close\r\nHost:"),
    "a link": GET.replace(b"\r\n\r\n", b"\r\nSec-Fetch-Mode: navigate\r\n\r\n"),
    "a publication": POST,
    "a publication that is no JSON": POST.replace(b"\r\n\r\n1", b"\r\n\r\n}"),
    "commands for no session": POST.replace(b"/channels/a", b"/emulation"),
    "a poll of no session": GET.replace(b"/channels/a", b"/socket.io/?EIO=4&transport=polling&sid=none.x"),
    "a poll without a version": GET.replace(b"/channels/a", b"/socket.io/?transport=polling"),
    **{kind: SAFARI.replace(usual, odd, 1) for kind, (usual, odd) in DOUBTFUL.items() if not kind.startswith("half")},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_both_ways_answer_the_same(ways: tuple[Server, Server], kind: str) -> None:
    short, long = (said(server, OTHERS[kind]) for server in ways)
    assert short.startswith(b"HTTP/1.1 ")
    assert short == long


# --------------------------------------------------------------------------------------------------- who is to see it


async def seen(server: Server, path: str) -> list[str]:
    """What the middleware saw of a client there, which got in."""
    async with connect(server.ws(path)) as socket, httpx.AsyncClient() as http:
        assert "connect" in await WebSocketLink(socket).ask(connect={})
        answer: list[str] = (await http.get(server.http("/saw"))).json()
        return answer


MOUNTED = "/live/connection/websocket"


async def test_middleware_sees_each_websocket_unless_the_option_says_that_it_need_not() -> None:
    with serving("tests.transports.mounted_app:api") as server:
        assert await seen(server, MOUNTED) == [MOUNTED]
    with serving("tests.transports.mounted_app:api", env={"FRESHET_DIRECT": "/live"}) as server:
        assert await seen(server, MOUNTED) == []
    with serving("tests.transports.mounted_app:api", env={"FRESHET_DIRECT": "/elsewhere"}) as server:
        assert await seen(server, MOUNTED) == [MOUNTED]


async def test_a_freshet_with_a_call_of_its_own_is_called() -> None:
    with serving("tests.transports.mounted_app:own") as server:
        assert await seen(server, "/connection/websocket") == ["/connection/websocket"]
