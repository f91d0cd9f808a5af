"""What one HTTP request may cost before anybody looks at it: a real server, and clients that say every byte."""

import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.tools.memory import MIB, grows_by_less_than
from tests.tools.patience import seconds, wait_until
from tests.tools.serving import Server, serving

Serve = Callable[..., Server]


@contextmanager
def line(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection((server.host, server.port), seconds(5)) as end:
        end.settimeout(seconds(10))
        yield end


def send(end: socket.socket, data: bytes) -> None:
    """As much of it as the server takes: it may refuse before it has all."""
    with suppress(OSError):
        end.sendall(data)


def read(end: socket.socket) -> bytes:
    """All until the server closes."""
    got = b""
    try:
        while chunk := end.recv(65536):
            got += chunk
    except ConnectionResetError:
        pass
    return got


def response(end: socket.socket) -> bytes:
    """One response, whose length it says."""
    head, got = b"", b""
    while not head or len(got) < int(re.search(rb"content-length: (\d+)", head)[1]):  # type: ignore[index]
        chunk = end.recv(65536)
        assert chunk, "closed"
        got += chunk
        if not head and b"\r\n\r\n" in got:
            head, _, got = got.partition(b"\r\n\r\n")
    return head


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:100]
    return int(answer[9:12])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """For what costs it nothing."""
    with serving("--dev") as server:
        yield server


HEAD = b"GET /health/live HTTP/1.1\r\nHost: h\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        pytest.param(HEAD + b"a:\r\n" * 1_000_000 + b"\r\n", 431, id="a million headers"),
        pytest.param(HEAD + b"a:\r\n" * 200 + b"\r\n", 431, id="200 headers"),
        pytest.param(HEAD + b"a: " + b"x" * 40_000 + b"\r\n\r\n", 431, id="one long header in one piece"),
        pytest.param(HEAD + b"a: " + b"x" * (16 * MIB), 431, id="one header that never ends"),
        pytest.param(HEAD + b"x" * (16 * MIB), 431, id="a header's name that never ends"),
        pytest.param(b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414, id="a long URL"),
        pytest.param(b"GET /" + b"x" * (16 * MIB), 414, id="an URL that never ends"),
        pytest.param(b"\r\n" * 40_000, 414, id="empty lines without end"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no Host"),
        pytest.param(HEAD + b"Host: other\r\n\r\n", 400, id="two Hosts"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            id="two lengths",
        ),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="TLS"),
        pytest.param(
            b"GET /connection/websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            + b"a:\r\n" * 100_000
            + b"\r\n",
            431,
            id="a WebSocket with many headers",
        ),
    ],
)
def test_a_request_beyond_a_bound_is_refused_before_it_is_all_in_memory(
    server: Server, request_bytes: bytes, expected: int
) -> None:
    with grows_by_less_than(server, 4 * MIB), line(server) as end:
        send(end, request_bytes)
        assert status(read(end)) == expected
    assert httpx.get(server.http("/health/live")).status_code == 200


@pytest.mark.parametrize("begun", [b"0\r\n", b"0\r\na: ", b"2\r\n{}\r\n0\r\na: ", b"1;a="])
def test_what_is_no_body_of_a_body_in_chunks_is_bounded_too(server: Server, begun: bytes) -> None:
    """A trailer's name, its value, the same behind a body, and an extension of a chunk, which never end."""
    with grows_by_less_than(server, 4 * MIB), line(server) as end:
        send(end, b"POST /api/info HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + begun)
        send(end, b"x" * (16 * MIB))
        assert read(end) == b""
    assert httpx.get(server.http("/health/live")).status_code == 200
    server.wait_for_log("chunk extensions or trailers too large: at most 32768 bytes")


def test_a_trailer_is_no_header(serve: Serve) -> None:
    server = serve(env={"FRESHET_API_KEY": "the key"})
    request = b"POST /api/info HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n%b\r\n2\r\n{}\r\n0\r\n%b\r\n"
    for header, trailer, expected in ((b"X-API-Key: the key\r\n", b"", 200), (b"", b"X-API-Key: the key\r\n", 401)):
        with line(server) as end:
            send(end, request % (header, trailer))
            assert status(response(end)) == expected


def test_a_body_may_come_in_as_many_chunks_as_its_bytes(serve: Serve) -> None:
    server = serve("--dev")
    with line(server) as end:
        body = b'{"channel": "a", "data": "' + b"x" * 20_000 + b'"}'
        chunks = b"".join(b"1;a=b\r\n%c\r\n" % each for each in body)
        send(end, b"POST /api/publish HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        send(end, b"0\r\nTrailer: of the body\r\n\r\n")
        assert status(response(end)) == 200


def test_the_log_says_which_bound_it_was_and_not_once_per_request(serve: Serve) -> None:
    server = serve("--dev")
    for _ in range(50):
        with line(server) as end:
            send(end, HEAD + b"a:\r\n" * 200 + b"\r\n")
            read(end)
    assert server.log().count("refused with 431: too many headers: at most 100 (options: [http])") == 1


def test_what_is_within_the_bounds_passes(serve: Serve) -> None:
    server = serve("--dev", env={"FRESHET_HTTP__HEADERS": "200", "FRESHET_HTTP__HEAD_SIZE": "100000"})
    headers = {f"x-{number}": "y" * 400 for number in range(150)}
    assert httpx.get(server.http("/health/live"), headers=headers).status_code == 200


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /health", HEAD + b"a: b\r\n", b"POST /api/info HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n{"],
    ids=["silent", "half an URL", "half a head", "half a body"],
)
def test_a_request_that_does_not_arrive_in_time_is_ended(serve: Serve, begun: bytes) -> None:
    server = serve("--dev", env={"FRESHET_HTTP__HEAD_TIMEOUT": "0.5", "FRESHET_HTTP__BODY_TIMEOUT": "0.5"})
    with line(server) as end:
        send(end, begun)
        answer = read(end)
    assert not answer or status(answer) == 408
    line_of = "did not arrive in time" if begun else "had sent nothing in time"
    server.wait_for_log(f"{'WARNING' if begun else 'INFO   '} freshet.connections: connections: 1 closed")
    assert line_of in server.log()


def test_dribbling_does_not_extend_the_deadline(serve: Serve) -> None:
    server = serve("--dev", env={"FRESHET_HTTP__HEAD_TIMEOUT": "0.5"})
    with line(server) as end:
        end.settimeout(0.05)
        answer = b""
        for _ in range(int(seconds(10) / 0.05)):
            send(end, b"x" if answer or not _ else b"GET /"[_ : _ + 1])
            try:
                if not (chunk := end.recv(1000)):
                    break
                answer += chunk
            except TimeoutError:
                continue
            except ConnectionResetError:
                break
        else:
            pytest.fail("a head that came byte by byte was still waited for")


def test_a_second_request_on_a_connection_has_a_deadline_of_its_own(serve: Serve) -> None:
    server = serve("--dev", env={"FRESHET_HTTP__HEAD_TIMEOUT": "0.5"})
    with line(server) as end:
        send(end, HEAD + b"\r\n")
        assert status(response(end)) == 200
        send(end, HEAD)
        assert status(read(end)) == 408


def test_a_body_that_keeps_coming_is_waited_for(serve: Serve) -> None:
    server = serve("--dev", env={"FRESHET_HTTP__BODY_TIMEOUT": "3"})
    body = b'{"channel": "a", "data": "' + b"x" * 5000 + b'"}'
    with line(server) as end:
        send(end, b"POST /api/publish HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 500):  # longer than the timeout, but never still for nearly so long
            send(end, body[start : start + 500])
            time.sleep(0.3)
        assert status(response(end)) == 200


def test_a_body_that_came_fast_may_not_stand_still_for_longer(serve: Serve) -> None:
    server = serve("--dev", env={"FRESHET_HTTP__BODY_TIMEOUT": "0.5"})
    with line(server) as end:
        send(end, b"POST /api/publish HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n" + b"x" * 800_000)
        assert read(end) == b""


PAGE = b"GET /channels/log HTTP/1.1\r\nHost: h\r\n%b\r\n"


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(PAGE % b"Accept: text/event-stream\r\n", id="a stream"),
        pytest.param(PAGE % b"" * 16, id="pages"),
        pytest.param(PAGE % b"" * 15 + PAGE % b"Connection: close\r\n", id="pages, the last of a connection"),
    ],
)
def test_who_asks_and_does_not_read_is_cut_when_it_has_taken_nothing_for_a_while(
    serve: Serve, tmp_path: Path, asked: bytes
) -> None:
    config = tmp_path / "freshet.toml"
    config.write_text(
        "[tokens]\nanonymous = true\n[api]\nanonymous = true\n[http]\nbody_timeout = 1\nkeep_alive = 1\n"
        '[[channels]]\nmatch = "log"\nread = "client"\nhistory = { size = 30, ttl = 600 }\n'
    )
    server = serve("--config", str(config))
    entry = {"channel": "log", "data": "x" * 60_000}

    def publish(count: int) -> None:
        commands = [{"publish": entry}] * 10
        for _ in range(count // 10):
            assert httpx.post(server.http("/api/batch"), json={"commands": commands}).status_code == 200

    publish(20)
    wait_until(lambda: not connections(server), 10, "nobody else")
    with socket.socket() as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        end.connect((server.host, server.port))
        send(end, asked)
        wait_until(lambda: connections(server) == 1, 10, "the connection")
        publish(120)
        wait_until(lambda: not connections(server), 20, "its end")
    with socket.socket() as end:  # one that reads, however slowly, is not cut
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        end.settimeout(seconds(20))
        end.connect((server.host, server.port))
        send(end, PAGE % b"" * 15 + PAGE % b"Connection: close\r\n")
        got = b""
        while chunk := end.recv(300_000):
            got += chunk
            time.sleep(0.03)
        assert got.count(b"HTTP/1.1 200") == 16


def test_who_leaves_while_it_waits_for_several_answers_leaves_no_traceback(serve: Serve) -> None:
    server = serve("--dev")
    poll = b"GET /channels/log?wait=60 HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n\r\n"
    for _ in range(20):
        with socket.create_connection((server.host, server.port), seconds(5)) as end:
            send(end, poll + PAGE % b"X-Not: plain\r\n" * 10)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset
    wait_until(lambda: not connections(server), 10, "their end")
    assert httpx.post(server.http("/api/publish"), json={"channel": "log", "data": 1}).status_code == 200
    assert httpx.get(server.http("/channels/log"), timeout=seconds(5)).status_code == 200
    assert "Traceback" not in server.log()


def connections(server: Server) -> int:
    """That the server holds: of its port, and of a process."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = "0A"
    return sum(row[1].endswith(f":{server.port:04X}") and row[3] != listening and row[9] != "0" for row in rows)


def test_large_bodies_of_nobody_knows_whom_are_bounded_in_all(serve: Serve) -> None:
    """Each would be held until its end shows for which session it is."""
    server = serve("--dev", env={"FRESHET_LIMITS__BODIES": str(16 * MIB)})
    head = b"POST /emulation HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\n"
    with ExitStack() as open_, grows_by_less_than(server, 60 * MIB):
        strangers = [stranger(server, open_) for _ in range(40)]  # 160 MB
        for each in strangers:
            send(each, head + b"x" * 4_000_000)
        wait_until(lambda: "limits.bodies" in server.log(), 10, "a refusal")
        assert httpx.get(server.http("/health/live"), timeout=seconds(5)).status_code == 200
    wait_until(lambda: small_and_large(server) == (404, 404), 10, "room for others")


def small_and_large(server: Server) -> tuple[int, int]:
    """What two requests for no session are answered."""
    bodies = ({"node": "", "session": "none", "data": "x" * size} for size in (10, 1_000_000))
    small, large = (httpx.post(server.http("/emulation"), json=body, timeout=seconds(5)).status_code for body in bodies)
    return small, large


@pytest.mark.parametrize("most", [16, 12])
def test_requests_that_are_sent_ahead_are_bounded(serve: Serve, most: int) -> None:
    server = serve("--dev", env={"FRESHET_HTTP__PIPELINED": str(most)} if most != 16 else {})
    with line(server) as end:
        send(end, (b"GET /channels/a?wait=30 HTTP/1.1\r\nHost: h\r\n\r\n") * 1000)
        assert read(end) == b""
    server.wait_for_log(f"at most {most} requests may be sent ahead")
    with line(server) as end:
        send(end, (HEAD + b"\r\n") * 10)
        got = b""
        while got.count(b"HTTP/1.1 200") < 10:
            got += end.recv(65536)


# ------------------------------------------------------------------------------------------------------ few open files


def stranger(server: Server, members: ExitStack) -> socket.socket:
    """A connection that says nothing."""
    return members.enter_context(line(server))


def test_silent_connections_make_room_for_those_who_come(serve: Serve) -> None:
    server = serve("--dev", prefix=("prlimit", "--nofile=320:320"))
    with ExitStack() as open_, connect(server.ws("/channels/a")) as member:
        for _ in range(500):
            stranger(server, open_)
        assert httpx.get(server.http("/health/live"), timeout=seconds(5)).status_code == 200
        assert httpx.get(server.http("/metrics"), timeout=seconds(5)).status_code == 200
        with connect(server.ws("/channels/a"), open_timeout=seconds(5)) as late:
            late.send("hello")
            assert member.recv(seconds(5)) == "hello"
    assert server.log().count("the oldest that has sent no whole request is closed for each new one") == 1


def crowd(server: Server, path: str, most: int, open_: ExitStack) -> list[ClientConnection]:
    """WebSockets, until one is refused."""
    members: list[ClientConnection] = []
    with suppress(InvalidStatus):
        while len(members) < most:
            members.append(open_.enter_context(connect(server.ws(path), open_timeout=seconds(5), close_timeout=0.1)))
    return members


def test_websockets_that_never_connect_make_room_too(serve: Serve) -> None:
    server = serve("--dev", prefix=("prlimit", "--nofile=256:256"))
    with ExitStack() as open_, grows_by_less_than(server, 60 * MIB):
        strangers = crowd(server, "/connection/websocket", 300, open_)
        assert len(strangers) == 300  # the first of them are gone again
        with connect(server.ws("/channels/a"), open_timeout=seconds(5)) as member:
            member.send("hello")
            assert member.recv(seconds(5)) == "hello"


def test_clients_that_stay_are_refused_where_there_is_no_room_and_operators_are_answered(serve: Serve) -> None:
    server = serve("--dev", prefix=("prlimit", "--nofile=256:256"))
    with ExitStack() as open_:
        members = crowd(server, "/channels/a", 300, open_)
        assert 100 <= len(members) < 200
        wait_until(lambda: refused(server), 5, "those who came last to be counted as clients")
        with httpx.stream("GET", server.http("/channels/a"), headers={"Accept": "text/event-stream"}) as answer:
            assert "retry:" in answer.read().decode()  # try again later, in an EventSource's words
        assert httpx.get(server.http("/health/live")).status_code == 200
        members[0].send("all are served")
        assert members[-1].recv(seconds(5)) == "all are served"


def refused(server: Server) -> bool:
    try:
        connect(server.ws("/channels/a"), open_timeout=seconds(5)).close()
    except InvalidStatus as answer:
        return answer.response.status_code == 503
    return False
