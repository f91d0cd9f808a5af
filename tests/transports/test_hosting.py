"""The WebSocket side of the server, with a client that says every byte itself: the handshake, and what an application
does behind it."""

import asyncio
import logging

import pytest

from freshet import Freshet
from freshet.observe.logs import BoundedLog
from freshet.runtime.server import SERVER, RunningServer
from freshet.transports import hosting
from freshet.transports.hosting import EARLY, QUEUE
from freshet.websocket.deflate import compress
from freshet.websocket.frames import CloseFrame, Opcode, PongFrame, encode
from freshet.websocket.handshake import client_request
from tests.tools.patience import eventually, seconds
from tests.transports.hosted import ACCEPT, Message, Receive, Send, echo, hosted
from tests.websocket.peer import MASK, plain


async def nobody(scope: Message, receive: Receive, send: Send) -> None:
    raise AssertionError("the application was called")


# ------------------------------------------------------------------------------------------------------- the handshake


@pytest.mark.parametrize(
    ("old", "new", "status", "header"),
    [
        (b"Upgrade: websocket", b"Upgrade: h2c", 426, b"upgrade: websocket"),
        (b"Version: 13", b"Version: 8", 426, b"sec-websocket-version: 13"),
        (b"GET ", b"POST ", 405, b"allow: get"),
        (b"Key: ", b"Key: short", 400, b"connection: close"),
        (b"Host: ", b"Protocol: \x01", 400, b"connection: close"),
        (b"Upgrade\r\n", b"Upgrade\r\nSec-WebSocket-Protocol: a b\r\n", 400, b"connection: close"),
    ],
    ids=["upgrade", "version", "method", "key", "header", "subprotocol"],
)
async def test_a_request_that_is_none_for_a_websocket_is_refused_and_no_application_called(
    old: bytes, new: bytes, status: int, header: bytes
) -> None:
    async with hosted(nobody) as it:
        request, _ = client_request("localhost", "/")
        assert old in request
        await it.peer.write(request.replace(old, new, 1))
        found, head, body = await it.peer.response()
        assert (found, header in head) == (status, True)
        assert b"content-length: %d" % len(body) in head
        await it.over()


async def test_an_application_is_told_what_was_asked_for() -> None:
    scopes: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    async with hosted(app, root_path="/mounted", ws_max_size=100) as it:
        await it.open("/a%20b?c=d%20e", headers=[(b"X-One", b"1"), (b"x-one", b"2")])
        await it.request()
        (scope,) = scopes
        assert (scope["type"], scope["scheme"], scope["http_version"]) == ("websocket", "ws", "1.1")
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/mounted/a b", b"/a%20b", b"c=d%20e")
        assert [value for name, value in scope["headers"] if name == b"x-one"] == [b"1", b"2"]
        assert (scope["state"], scope["client"], scope["server"]) == ({"shared": 1}, None, None)


async def test_the_subprotocol_that_the_application_chose_is_in_the_answer_with_its_headers() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        assert scope["subprotocols"] == ["one", "two"]
        await receive()
        await send({**ACCEPT, "subprotocol": "two", "headers": [(b"x-own", b"yes")]})
        await receive()

    async with hosted(app) as it:
        headers = await it.open(subprotocol="one, two")
        assert headers[b"sec-websocket-protocol"] == b"two"
        assert (headers[b"x-own"], headers[b"x-server"]) == (b"yes", b"ours")
        assert b"sec-websocket-extensions" not in headers


async def test_what_a_client_says_before_it_is_accepted_comes_after() -> None:
    gate = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await gate.wait()
        await echo(scope, receive, send)

    async with hosted(app) as it:
        await it.request()
        await eventually(lambda: it.state.tasks)
        for text in (b"one", b"two"):
            await it.peer.send(text)
        await eventually(lambda: len(it.protocol._early) == 2 * 9)
        gate.set()
        await it.peer.head()
        assert await it.peer.texts(2) == [b"one", b"two"]


async def test_a_client_that_says_too_much_before_it_is_accepted_is_cut() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        assert (await receive())["type"] == "websocket.disconnect"
        with pytest.raises(OSError, match="the client is gone"):
            await send({"type": "websocket.send", "text": "too late"})

    async with hosted(app) as it:
        await it.request()
        await eventually(lambda: it.state.tasks)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await it.peer.write(b"x" * (2 * EARLY))
        await it.over()


# ---------------------------------------------------------------------------------------------------- the conversation


async def test_texts_bytes_and_messages_in_pieces_go_both_ways() -> None:
    async with hosted(echo) as it:
        await it.open()
        await it.peer.send("é".encode())
        await it.peer.send(b"\xff\x00", Opcode.BINARY)
        await it.peer.send(b"in ", fin=False)
        await it.peer.send(b"pieces", Opcode.CONTINUATION)
        got = plain([await it.peer.next() for _ in range(3)])
        assert got == [("frame", "é".encode(), False), ("frame", b"\xff\x00", True), ("frame", b"in pieces", False)]


async def test_a_ping_gets_its_pong_without_the_application() -> None:
    async with hosted(echo) as it:
        await it.open()
        await it.peer.send(b"there?", Opcode.PING)
        assert await it.peer.next() == PongFrame(b"there?")


async def test_reading_stops_while_the_application_does_not_take_what_comes() -> None:
    gate = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await gate.wait()
        await echo(scope, receive, _but_accept(send))

    async with hosted(app) as it:
        await it.open()
        for number in range(QUEUE):
            await it.peer.send(b"%d" % number)
        await eventually(lambda: not it.transport.is_reading())
        await it.peer.send(b"one more")
        gate.set()
        expected = [*(b"%d" % number for number in range(1, QUEUE)), b"one more"]  # the first took the accept's place
        assert await it.peer.texts(QUEUE) == expected
        assert it.transport.is_reading()


def _but_accept(send: Send) -> Send:
    async def others(message: Message) -> None:
        if message is not ACCEPT:
            await send(message)

    return others


async def test_an_application_waits_while_its_client_does_not_read() -> None:
    sent: list[int] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        for number in range(40):
            await send({"type": "websocket.send", "bytes": b"x" * 50_000})
            sent.append(number)

    async with hosted(app) as it:
        await it.open()
        await eventually(lambda: not it.protocol._room.is_set())
        assert len(sent) < 10
        assert [len(text) for text in await it.peer.texts(40)] == [50_000] * 40
        assert (await it.peer.closed()).code == 1000


# ------------------------------------------------------------------------------------------ an application that ends it


@pytest.mark.parametrize(
    ("close", "frame"),
    [
        ({"code": 4001, "reason": "as you wish"}, CloseFrame(4001, "as you wish")),
        ({}, CloseFrame(1000, "")),
        ({"code": 1001, "reason": None}, CloseFrame(1001, "")),
    ],
    ids=["both", "neither", "no reason"],
)
async def test_an_application_closes_with_its_code_and_reason(close: Message, frame: CloseFrame) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close", **close})
        assert (await receive())["code"] == 1006
        with pytest.raises(OSError, match="gone"):
            await send({"type": "websocket.send", "text": "too late"})

    async with hosted(app) as it:
        await it.open()
        assert await it.peer.next() == frame
        assert await it.peer.ended()
        await it.over()


async def test_an_application_that_returns_closes_as_usual() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(ACCEPT)

    async with hosted(app) as it:
        await it.open()
        assert await it.peer.next() == CloseFrame(1000, "")


async def test_an_application_that_closes_before_it_accepts_refuses_with_403() -> None:
    told: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 4001})
        told.append(await receive())

    async with hosted(app) as it:
        await it.request()
        status, _, body = await it.peer.response()
        assert (status, body) == (403, b"Forbidden")
        await it.over()
        assert told[0]["type"] == "websocket.disconnect"


async def test_an_application_refuses_with_a_response_of_its_own() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        assert "websocket.http.response" in scope["extensions"]
        headers = [(b"x-own", b"yes"), (b"content-length", b"999"), (b"content-type", b"text/html")]
        await send({"type": "websocket.http.response.start", "status": 418, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"<p>", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    async with hosted(app) as it:
        await it.request()
        status, head, body = await it.peer.response()
        assert (status, body) == (418, b"<p>no")
        assert b"x-own: yes" in head
        assert (b"content-length: 5" in head, b"999" in head, b"text/html" in head) == (True, False, True)
        await it.over()


@pytest.mark.parametrize("how", ["raises", "returns", "sends first"])
async def test_an_application_that_fails_before_it_answers_is_a_500(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if how == "raises":
            raise LookupError("a mistake of the user's")
        if how == "sends first":
            await send({"type": "websocket.send", "text": "hello"})

    async with hosted(app) as it:
        await it.request()
        status, _, body = await it.peer.response()
        assert (status, body) == (500, b"Internal Server Error")
        await it.over()
    expected = {"raises": "a mistake of the user's", "returns": "", "sends first": "unexpected ASGI message"}[how]
    assert expected in caplog.text
    assert bool(expected) is bool(caplog.records)


async def test_an_application_that_fails_later_closes_with_1011(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        raise LookupError("a mistake of the user's")

    async with hosted(app) as it:
        await it.open()
        assert await it.peer.next() == CloseFrame(1011, "internal error")
    assert "a mistake of the user's" in caplog.text


# ------------------------------------------------------------------------------------------------ a client that ends it


@pytest.mark.parametrize(
    ("data", "code", "reason", "answer"),
    [
        (encode(Opcode.CLOSE, b"\x0f\xa1bye", mask=MASK), 4001, "bye", CloseFrame(4001, "")),
        (encode(Opcode.CLOSE, b"", mask=MASK), 1005, "", CloseFrame(None, "")),
        (b"\x81\x01a", 1002, None, None),
        (encode(Opcode.TEXT, b"x" * 101, mask=MASK), 1009, None, None),
    ],
    ids=["code", "no code", "unmasked", "too large"],
)
async def test_an_application_is_told_how_its_client_ended_it(
    data: bytes, code: int, reason: str | None, answer: CloseFrame | None
) -> None:
    messages: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        messages.append(await receive())

    async with hosted(app, ws_max_size=100) as it:
        await it.open()
        await it.peer.write(data)
        closed = await it.peer.closed()
        assert closed == (answer or CloseFrame(code, closed.reason))
        assert await it.peer.ended()
        await it.over()
        (message,) = messages
        assert (message["type"], message["code"]) == ("websocket.disconnect", code)
        assert message["reason"] == (closed.reason if reason is None else reason)


async def test_a_connection_that_is_lost_is_told_too_and_ends_what_waits() -> None:
    messages: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        messages.append(await receive())

    async with hosted(app) as it:
        await it.open()
        it.peer.close()
        await it.over()
        assert messages == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


# ------------------------------------------------------------------------------------------------ the end of the server


async def test_the_end_of_the_server_closes_with_1012_and_the_application_is_told() -> None:
    messages: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        messages.append(await receive())

    async with hosted(app) as it:
        await it.open()
        it.protocol.shutdown()
        assert (await it.peer.closed()).code == 1012
        await it.over()
        assert (messages[0]["type"], messages[0]["code"]) == ("websocket.disconnect", 1012)


async def test_the_end_of_the_server_refuses_who_waits_for_an_answer() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await receive()

    async with hosted(app) as it:
        await it.request()
        await eventually(lambda: it.state.tasks)
        it.protocol.shutdown()
        assert (await it.peer.response())[0] == 503
        await it.over()


# ----------------------------------------------------------------------------------- an application that takes it over


async def test_a_session_that_takes_the_socket_over_gets_what_came_early() -> None:
    live = Freshet(dev=True, environment={})
    gate = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await gate.wait()
        await live(scope, receive, send)

    async with live.lifespan(), hosted(app) as it:
        await it.request("/connection/websocket")
        await eventually(lambda: it.state.tasks)
        await it.peer.send(b'{"id": 1, "connect": {}}')
        await eventually(lambda: it.protocol._early)
        gate.set()
        await it.peer.head()
        assert b'"connect"' in (await it.peer.texts(1))[0]
        assert it.protocol not in it.state.connections
        assert len(it.state.connections) == 1
        assert not it.state.tasks  # it costs none from now on


async def test_a_session_whose_client_left_meanwhile_ends_at_once() -> None:
    live = Freshet(dev=True, environment={})
    gate = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await gate.wait()
        await live(scope, receive, send)

    async with live.lifespan(), hosted(app) as it:
        await it.request("/connection/websocket")
        await eventually(lambda: it.state.tasks)
        it.peer.close()
        await eventually(lambda: it.protocol._disconnected)
        gate.set()
        async with asyncio.timeout(seconds(5)):
            await it.over()
        assert len(live._node.registry) == 0


@pytest.mark.parametrize("compression", [True, False])
async def test_a_route_of_the_users_own_gets_compression_where_the_configuration_has_it(compression: bool) -> None:
    before = SERVER.set(RunningServer())
    live = Freshet.from_config(environment={"FRESHET_WEBSOCKET__COMPRESSION": str(compression).lower()})
    text = b"again and again, " * 100
    async with live.lifespan(), hosted(echo, deflate=compression) as it:
        headers = await it.open("/own", deflate=True)
        assert (b"sec-websocket-extensions" in headers) is compression
        await it.peer.send(compress(text) if compression else text, rsv1=compression)
        assert plain([await it.peer.next()]) == [("frame", text, False)]
        await it.peer.send(b"short")
        assert plain([await it.peer.next()]) == [("frame", b"short", False)]
    SERVER.reset(before)


async def test_a_message_may_come_in_as_many_pieces_as_its_bytes_allow(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosting, "_limits_log", BoundedLog(logging.getLogger("freshet.limits")))
    async with hosted(echo, ws_max_size=20_000) as it:
        await it.open()
        pieces = b"".join(encode(Opcode.CONTINUATION, b"x", mask=MASK, fin=False) for _ in range(9_999))
        await it.peer.send(b"x", fin=False)
        await it.peer.write(pieces)
        await it.peer.send(b"", Opcode.CONTINUATION)
        assert plain([await it.peer.next()]) == [("frame", b"x" * 10_000, False)]
        await it.peer.send(b"x" * 20_000, fin=False)
        await it.peer.send(b"x", Opcode.CONTINUATION)
        assert (await it.peer.closed()).code == 1009
        assert "was closed with 1009: at most 20000 bytes" in caplog.text


@pytest.mark.parametrize("compression", [True, False])
async def test_compression_is_agreed_on_where_the_configuration_has_it(compression: bool) -> None:
    environment = {"FRESHET_WEBSOCKET__COMPRESSION": str(compression).lower(), "FRESHET_TOKENS__ANONYMOUS": "true"}
    live = Freshet.from_config(environment=environment)
    async with live.lifespan(), hosted(live) as it:
        headers = await it.open("/connection/websocket", deflate=True)
        assert (b"sec-websocket-extensions" in headers) is compression
