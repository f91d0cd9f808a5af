"""The short way in and the long one, given the same bytes by somebody who looks for a difference between them.

A proxy, or a rule of ours, that reads a request one way while the server reads it another is what request smuggling,
and most ways around a check of paths, come from.
"""

import re
import socket
from contextlib import suppress
from random import Random
from typing import NamedTuple

import pytest

from tests.tools.patience import seconds
from tests.tools.serving import Server

SEEDS = range(4)
EACH = 25  # connections for each seed
LAST = b"GET /channels/log:last?limit=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
KEY = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"

PATHS = [
    b"/channels/log:a",
    b"/channels/log:a?limit=1",
    b"/channels",
    b"/channels/",
    b"//channels/log:a",
    b"/channels//log:a",
    b"/channels/log:a/",
    b"/channels/%6cog:a",
    b"/%63hannels/log:a",
    b"/channels%2flog:a",
    b"/channels/log:a%2f..%2fb",
    b"/channels/../channels/log:a",
    b"/./channels/log:a",
    b"/channels/log:a%00",
    b"/channels/log:%0d%0aX-A:%20b",
    b"/channels/log:%ff",
    b"/channels/log:%",
    b"/channels/log:a;b=c",
    b"/channels/log:a?limit=1&limit=2",
    b"/channels/log:a?%6cimit=1",
    b"/channels/log:a?",
    b"/channels/log:a??limit=1",
    b"/channels\\log:a",
    b"/CHANNELS/log:a",
    b"/api/info",
    b"/api/../api/info",
    b"/%61pi/info",
    b"/metrics",
    b"/metrics/",
    b"/admin/../metrics",
    b"/health/live",
    b"/health/../metrics",
    b"/health/%2e%2e/metrics",
    b"/emulation",
    b"/socket.io/?EIO=4&transport=polling&sid=none.x",
    b"/socket.io?EIO=4&transport=polling&sid=none.x",
    b"/socket.io/../channels/log:a",
    b"/connection/websocket",
    b"/connection/websocket/",
    b"/connection%2Fwebsocket",
    b"/ai/x/socket",
    b"/dev/@connections/a",
    b"/dev/%40connections/a",
    b"/v1/stream/log:a",
    b"/",
    b"*",
    b"http://127.0.0.1/channels/log:a",
    b"http://evil.example/channels/log:a",
    b"HTTP://127.0.0.1/api/info",
    b"//evil.example/channels/log:a",
    b"127.0.0.1:80",
    b"/channels/log:a#b",
    b"/channels/log:\xc3\xa9",
]
HOSTS = [b"Host: 127.0.0.1\r\n"] * 6 + [
    b"Host: localhost:1\r\n",
    b"Host: evil.example\r\n",
    b"Host: 127.0.0.1\r\nHost: evil.example\r\n",
    b"Host: 127.0.0.1, evil.example\r\n",
    b"Host: \r\n",
    b"host: [::1]:80\r\n",
    b"Host: a@b\r\n",
    b"Host: 127.0.0.1\t\r\n",
    b"",
]
MORE = [b""] * 8 + [
    b"Origin: https://evil.example\r\n",
    b"Origin: http://127.0.0.1\r\n",
    b"Origin: http://127.0.0.1\r\nOrigin: https://evil.example\r\n",
    b"Origin: null\r\n",
    b"Sec-Fetch-Mode: navigate\r\n",
    b"sec-fetch-site: cross-site\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: close, keep-alive\r\n",
    b"Connection: keep-alive\r\nConnection: close\r\n",
    b"Accept: text/event-stream;q=0\r\n",
    b"X-Forwarded-For: 192.0.2.1\r\n",
    b"X-Forwarded-Host: evil.example\r\n",
    b"X-HTTP-Method-Override: DELETE\r\n",
    b"X-Original-URL: /metrics\r\n",
    b"Cookie: a=b; a=c\r\n",
    b"A: \xff\r\n",
    b"A: b \r\n",
    b"A:b\r\n",
    b"A : b\r\n",
    b"A: b\r\n c\r\n",
    b"A: b\x0bC: d\r\n",
    b"A: b\x85Content-Length: 3\r\n",
    b"A: b\rC: d\r\n",
    b"A: b\nC: d\r\n",
    b"A\x00: b\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
    b"Expect: 100-continue\r\n",
    b"TE: trailers\r\n",
]
FRAMINGS = [b"Content-Length: %d\r\n"] * 4 + [
    b"content-length: %d\r\n",
    b"Content-Length: 0%d\r\n",
    b"Content-Length: +%d\r\n",
    b"Content-Length: %d\r\nContent-Length: %d\r\n",
    b"Content-Length: %d\r\nContent-Length: 0\r\n",
    b"Content-Length: %d, %d\r\n",
    b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n",
    b"Transfer-Encoding: identity\r\nContent-Length: %d\r\n",
    b"Transfer-Encoding: chunked, identity\r\nContent-Length: %d\r\n",
    b"Transfer-Encoding : chunked\r\nContent-Length: %d\r\n",
]
METHODS = [b"GET"] * 5 + [b"POST"] * 4 + [b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"get", b"TRACE", b"CONNECT", b"PRI"]


def request(chance: Random) -> bytes:
    """A whole one, as far as its sender can say."""
    method, path, version = chance.choice(METHODS), chance.choice(PATHS), b"HTTP/1.1"
    if chance.random() < 0.05:
        version = chance.choice((b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.10", b"http/1.1"))
    lines = [chance.choice(HOSTS), chance.choice(MORE), chance.choice(MORE)]
    body = b""
    if method == b"POST" or chance.random() < 0.1:
        body = chance.choice((b"1", b"{}", b"", b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"))
        lines.append(chance.choice(FRAMINGS).replace(b"%d", b"%d" % len(body)))
    elif chance.random() < 0.3:
        lines += [UPGRADE, KEY]
    chance.shuffle(lines)
    return method + b" " + path + b" " + version + b"\r\n" + b"".join(lines) + b"\r\n" + body


class Heard(NamedTuple):
    """statuses: of the responses. rest: what they say, without what differs from one server to the other."""

    statuses: list[bytes]
    rest: bytes


def heard(server: Server, requests: list[bytes], *, together: bool) -> Heard:
    """What a client gets until the connection is closed. together: it sends all behind the first at once."""
    with socket.create_connection((server.host, server.port), seconds(15)) as end:
        end.settimeout(seconds(15))
        end.sendall(requests[0])
        data = until_head(end)
        with suppress(ConnectionError):  # it was closed before all was sent: what it was answered is still to be read
            for each in [b"".join(requests[1:])] if together else requests[1:]:
                end.sendall(each)
            if b" 101 " in data:
                end.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while chunk := end.recv(1 << 16):
                data += chunk
    return Heard(re.findall(rb"HTTP/1\.1 (\d{3}) ", data), without_chance(data))


def until_head(end: socket.socket) -> bytes:
    """Up to the end of a head, and the body that it tells of."""
    data = b""
    while b"\r\n\r\n" not in data and (chunk := end.recv(1 << 16)):
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"(?i)content-length: (\d+)", head)
    while found and len(body) < int(found[1]) and (chunk := end.recv(1 << 16)):
        data, body = data + chunk, body + chunk
    return data


def without_chance(data: bytes) -> bytes:
    data = re.sub(rb"(?i)(allow|date|retry-after|stream-next-offset|etag|location|content-length): [^\r]*", b"", data)
    data = re.sub(rb'"(epoch|node|name|uptime|id|client)": ?("[^"]*"|[\d.]+)', b"", data)
    return b"" if b"# HELP" in data or b'"nodes"' in data else data


@pytest.mark.parametrize("seed", SEEDS)
def test_the_short_way_and_the_long_one_read_the_same_bytes_alike(ways: tuple[Server, Server], seed: int) -> None:
    chance = Random(seed)
    for _ in range(EACH):
        requests = [request(chance) for _ in range(chance.choice((1, 1, 2, 3)))]
        together = chance.random() < 0.5
        first = requests[0]
        if not first.startswith((b"GET", b"POST")) or b"text/event-stream" in first:
            requests.append(LAST)
            requests.reverse()  # one that certainly has a response with a length comes first
            requests[0] = LAST.replace(b"Connection: close\r\n", b"")
        short, long = (heard(server, [*requests, LAST], together=together) for server in ways)
        # What is no request ends the connection, with or without the responses that were owed by then.
        same = min(len(short.statuses), len(long.statuses))
        assert short.statuses[:same] == long.statuses[:same], requests
        assert short.rest == long.rest or len(short.statuses) != len(long.statuses), requests
        assert not any(each.startswith(b"5") for each in short.statuses), requests
