"""The opening handshake: whom the server lets in, how it refuses the rest, and what abuse of headers costs."""

import base64
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from freshet.websocket.handshake import (
    HEAD_SIZE,
    HEADERS,
    SUBPROTOCOLS,
    HandshakeError,
    UpgradeRequest,
    check,
    check_response,
    client_request,
    http_response,
    parse_request,
    refuse,
    response,
    subprotocols,
)
from tests.tools.cost import assert_linear

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, 1.3, which also says what it is answered with:
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HEADER = {
    b"host": b"example.org",
    b"upgrade": b"websocket",
    b"connection": b"Upgrade",
    b"sec-websocket-version": b"13",
    b"sec-websocket-key": KEY,
}


def head(*more: bytes, line: bytes = b"GET /chat?room=1 HTTP/1.1", **changes: bytes | None) -> bytes:
    """A request's head. changes: another value for a header, or None to leave it out."""
    headers = {**HEADER, **{name.replace("_", "-").encode(): value for name, value in changes.items()}}
    lines = [name + b": " + value for name, value in headers.items() if value is not None]
    return b"\r\n".join([line, *lines, *more, b"", b""])


def opened(data: bytes) -> tuple[UpgradeRequest, bytes, list[str]]:
    """All that a server does with a head."""
    request = parse_request(data)
    return request, check(request.headers), subprotocols(request.headers)


def refusal(data: bytes) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        opened(data)
    return caught.value


# ---------------------------------------------------------------------------------------------------------- who enters


def test_a_request_is_read_as_it_is() -> None:
    request, key, offered = opened(head(b"X-Thing:  a b \t", b"x-thing: caf\xc3\xa9", b"X-Empty:"))
    assert request.method == b"GET"
    assert request.target == b"/chat?room=1"
    assert request.headers[-3:] == [(b"x-thing", b"a b"), (b"x-thing", b"caf\xc3\xa9"), (b"x-empty", b"")]
    assert key == KEY
    assert offered == []


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"connection": b"keep-alive, Upgrade"}, id="Firefox"),
        pytest.param({"connection": b"keep-alive,upgrade"}, id="no space"),
        pytest.param({"connection": b"Upgrade, , HTTP2-Settings"}, id="an empty element"),
        pytest.param({"upgrade": b"WebSocket"}, id="capitals"),
        pytest.param({"upgrade": b"h2c, websocket"}, id="two upgrades"),
        pytest.param({"content_length": b"0"}, id="an empty body"),
    ],
)
def test_what_real_clients_send_is_accepted(changes: dict[str, bytes]) -> None:
    assert opened(head(**changes))[1] == KEY


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1", b"GET http://example.org/x HTTP/1.1", b"GET //x%20y?a=[b] HTTP/1.1"]
)
def test_a_target_is_left_as_it_is(line: bytes) -> None:
    assert opened(head(line=line))[0].target == line.split(b" ")[1]


def test_the_answer_proves_that_the_key_was_read() -> None:
    answer = response(KEY, "chat", b"permessage-deflate", [(b"server", b"freshet")])
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"\r\n\r\n")
    headers = dict(check_response(answer, KEY))
    assert headers[b"sec-websocket-accept"] == ACCEPT
    assert headers[b"sec-websocket-protocol"] == b"chat"
    assert headers[b"sec-websocket-extensions"] == b"permessage-deflate"
    assert headers[b"server"] == b"freshet"


def test_the_subprotocols_are_those_of_the_client_in_its_order() -> None:
    data = head(b"Sec-WebSocket-Protocol: b, a", b"Sec-WebSocket-Protocol:c ,, d ,")
    assert opened(data)[2] == ["b", "a", "c", "d"]


def test_our_own_client_is_let_in() -> None:
    data, key = client_request("example.org", "/x", [(b"origin", b"https://example.org")], "chat", deflate=True)
    request, read, offered = opened(data)
    assert (read, offered) == (key, ["chat"])
    assert (b"origin", b"https://example.org") in request.headers
    assert check_response(response(key, "chat", None, []), key)
    assert key != client_request("example.org", "/x")[1]


# --------------------------------------------------------------------------------------------------------- who does not


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head(line=b"POST / HTTP/1.1"), 405),
        (head(line=b"get / HTTP/1.1"), 405),
        (head(line=b"GET / HTTP/1.0"), 400),
        (head(line=b"GET / HTTP/2.0"), 400),
        (head(line=b"GET  / HTTP/1.1"), 400),
        (head(line=b"GET / HTTP/1.1 "), 400),
        (head(line=b"GET /"), 400),
        (head(line=b""), 400),
        *[
            (head(line=b"GET " + target + b" HTTP/1.1"), 400)
            for target in (b"*", b"x", b"/a\tb", b"/a\x0bb", b"/\x7f", b"/caf\xc3\xa9", b"/\x85", b"/#top", b"/\n")
        ],
        (head(host=None), 400),
        (head(b"Host: other.example"), 400),
        (head(b"HOST: example.org"), 400),
        (head(content_length=b"5"), 400),
        (head(content_length=b"0, 0"), 400),
        (head(b"Content-Length: 5", transfer_encoding=b"chunked"), 400),
        (head(transfer_encoding=b"identity"), 400),
        (head(upgrade=None), 426),
        (head(upgrade=b"websockets"), 426),
        (head(connection=None), 400),
        (head(connection=b"close"), 400),
        (head(connection=b"notupgrade"), 400),
        *[(head(sec_websocket_version=version), 426) for version in (None, b"8", b"13, 8", b"", b"+13")],
        (head(b"Sec-WebSocket-Version: 13"), 426),
        *[
            (head(sec_websocket_key=key), 400)
            for key in (None, b"", KEY[:-1], KEY + b"=", b"A" * 24, base64.b64encode(bytes(15)), KEY[:-3] + b"\xe9==")
        ],
        (head(b"Sec-WebSocket-Key: " + KEY), 400),
        (head().removesuffix(b"\r\n"), 400),
        (b"", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40), 400),
    ],
)
def test_a_request_that_is_no_opening_handshake_is_refused(data: bytes, status: int) -> None:
    assert refusal(data).status == status


@pytest.mark.parametrize("character", [bytes((code,)) for code in [*range(0x20), 0x7F] if code != 0x09])
def test_no_control_character_gets_into_a_header(character: bytes) -> None:
    assert refusal(head(b"X-Thing: a" + character + b"b")).status == 400
    assert refusal(head(b"X-Th" + character + b"ing: a")).status == 400


@pytest.mark.parametrize("separator", [b"\x85", b"\xc2\x85", b"\xe2\x80\xa8", b"\xa0"])
def test_what_is_a_line_end_elsewhere_is_part_of_a_value_here(separator: bytes) -> None:
    value = b"a" + separator + b"Host: evil.example"
    request = parse_request(head(b"X-Thing: " + value))
    assert (b"x-thing", value) in request.headers
    assert [v for name, v in request.headers if name == b"host"] == [b"example.org"]


@pytest.mark.parametrize(
    "line", [b" folded", b"\tfolded", b"no colon", b": no name", b"Name : x", b"N\xc3\xa4me: x", b""]
)
def test_a_line_that_is_no_header_is_refused(line: bytes) -> None:
    assert refusal(head(line, b"X-Last: x")).status == 400


def test_a_version_that_is_not_ours_is_answered_with_ours() -> None:
    error = refusal(head(sec_websocket_version=b"8"))
    answer = refuse(error.status, error.message, error.headers)
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b"\r\nsec-websocket-version: 13\r\n" in answer


@pytest.mark.parametrize(
    "value",
    [b"caf\xc3\xa9", b"\xff", b"a b", b'"quoted"', b"a;b", b"a\x85", b"a/b", b", ".join([b"x"] * (SUBPROTOCOLS + 1))],
)
def test_a_subprotocol_that_is_no_token_is_refused(value: bytes) -> None:
    assert refusal(head(b"Sec-WebSocket-Protocol: " + value)).status == 400


# ------------------------------------------------------------------------------------------------------------ the abuse


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head(*[b"X-%d: x" % number for number in range(2000)]), 431),
        (head(b"X-Long: " + b"x" * 1024 * 1024), 431),
        (head(b"X" * 1024 * 1024 + b": x"), 431),
        (head(line=b"GET /" + b"x" * 1024 * 1024 + b" HTTP/1.1"), 431),
        (head(b"\r\n" * 20_000), 431),
    ],
)
def test_more_than_a_handshake_needs_is_refused_by_its_size(data: bytes, status: int) -> None:
    assert refusal(data).status == status


def test_the_limits_are_what_they_say() -> None:
    room = HEADERS - len(HEADER)
    assert opened(head(*[b"x: y"] * room))
    assert refusal(head(*[b"x: y"] * (room + 1))).status == 431
    spare = HEAD_SIZE - len(head(b"x: "))
    assert opened(head(b"x: " + b"y" * spare))
    assert refusal(head(b"x: " + b"y" * (spare + 1))).status == 431


@pytest.mark.parametrize(
    "value", [b"b%bx", b"%b", b"a,%bb", b"%b,", b"a%b\xff"], ids=["inside", "alone", "after", "before", "bad end"]
)
@pytest.mark.parametrize("filling", [b" ", b"\t", b" \t"])
@pytest.mark.parametrize("header", ["sec_websocket_protocol", "connection", "upgrade", "sec_websocket_key"])
def test_a_long_run_of_spaces_takes_time_in_proportion(value: bytes, filling: bytes, header: str) -> None:
    def prepared(count: int) -> Callable[[], object]:
        data = head(**{header: value % (filling * count)})

        def attempt() -> None:
            with suppress(HandshakeError):
                opened(data)

        return attempt

    assert_linear(prepared, 7_500 // len(filling))


@given(st.binary(max_size=300))
@example(b"")
def test_any_bytes_are_a_request_or_a_refusal(noise: bytes) -> None:
    for data in (noise, noise + b"\r\n\r\n", head(noise), head(line=noise), head(sec_websocket_protocol=noise)):
        error = None
        try:
            opened(data)
        except HandshakeError as raised:
            error = raised
        assert error is None or 400 <= error.status < 500
        assert error is None or refuse(error.status, error.message, error.headers).endswith(error.message)


# ---------------------------------------------------------------------------------------------------------- what we say


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 499, 500, 503, 599])
def test_a_refusal_is_a_whole_response(status: int) -> None:
    answer = refuse(
        status, b"no", [(b"Retry-After", b"5"), (b"Content-Length", b"99"), (b"Transfer-Encoding", b"chunked")]
    )
    top, _, body = answer.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 %d " % status)
    assert body == b"no"
    lines = [line.lower() for line in top.split(b"\r\n")[1:]]
    assert b"retry-after: 5" in lines
    assert [line for line in lines if line.startswith(b"content-length")] == [b"content-length: 2"]
    assert not [line for line in lines if line.startswith(b"transfer-encoding")]
    assert b"connection: close" in lines


@pytest.mark.parametrize(
    "header",
    [(b"x", b"a\r\nset-cookie: b"), (b"x\r\ny", b"a"), (b"x", b"a\nb"), (b"x", b"\x00"), (b"", b"a"), (b"x y", b"")],
)
def test_an_application_cannot_be_made_to_send_a_second_header(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="header"):
        response(KEY, None, None, [header])
    with pytest.raises(ValueError, match="header"):
        refuse(403, b"", [header])
    for name, value in [header, header, (header[0], header[1] + b"." * 1000)]:  # whatever was sent before it
        with pytest.raises(ValueError, match="header"):
            http_response(200, [(b"x", b"a"), (name, value)], b"")


@pytest.mark.parametrize("length", [0, 1, 99, 100, 101, 10_000])
def test_a_response_has_the_headers_of_its_own(length: int) -> None:
    for number in (b"1", b"2", b"1"):
        said = [(b"x", number * length), (b"y", b"z")]
        answer = http_response(204, said, b"body")
        assert answer == b"HTTP/1.1 204 No Content\r\nx: %b\r\ny: z\r\n\r\nbody" % (number * length)


def test_a_subprotocol_cannot_be_made_a_second_header() -> None:
    with pytest.raises(ValueError, match="header"):
        response(KEY, "chat\r\nset-cookie: b", None, [])


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (refuse(403, b"no", []), 403),
        (response(KEY, None, None, []).replace(ACCEPT, ACCEPT[::-1]), 502),
        (response(KEY, None, None, []).replace(b"Upgrade: websocket", b"Upgrade: h2c"), 502),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", 502),
        (b"HTTP/1.1 abc\r\n\r\n", 502),
        (b"HTTP/1.1\r\n\r\n", 502),
    ],
)
def test_our_own_client_sees_that_it_was_not_let_in(answer: bytes, status: int) -> None:
    with pytest.raises(HandshakeError) as caught:
        check_response(answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", KEY)
    assert caught.value.status == status
