"""Clients over HTTP: an event stream, the long polls of a channel's URL, and a publisher by the server API."""

import re
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from freshet.load.clients import LoadClient, answered
from freshet.load.plan import LoadError
from freshet.load.tally import LONGEST

WAIT = 25  # seconds that a poll waits
_place = re.compile(rb'"epoch":"([^"]*)","offset":(\d+)').search
_length = re.compile(rb"content-length: *(\d+)", re.IGNORECASE).search


class HttpClient(LoadClient):
    """It reads; who publishes has another way."""

    publishes = False

    @property
    def target(self) -> str:
        return f"/channels/{quote(self.channel, safe='')}"

    def _get(self, query: dict[str, object], *headers: str) -> bytes:
        """A request with its query; the token is in it, as a page has to do it."""
        given = {**query, "token": self._token} if self._token else query
        target = f"{self.path()}?{urlencode(given)}" if given else self.path()
        lines = [f"GET {target} HTTP/1.1", f"Host: {urlsplit(self._plan.url).netloc}", *headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


class EventStreamClient(HttpClient):
    def request(self) -> bytes:
        self._rest = b""
        return self._get({}, "Accept: text/event-stream")

    def begun(self, rest: bytes) -> None:
        if not self._head.startswith(b"HTTP/1.1 200"):
            self.failed(answered(self._head))
        self.came(rest)

    def came(self, data: bytes) -> None:
        data = self._rest + data
        if not self._is_ready and b"event: subscribed" in data:
            self.subscribed()
        end = self._tally.take(self.sequences, data)
        self._rest = data[max(end, len(data) - LONGEST) :]  # a stamp may come in two pieces


class PollClient(HttpClient):
    """A request, its page, and the next request from there."""

    def request(self) -> bytes:
        return self._get({"limit": 0})

    def begun(self, rest: bytes) -> None:
        self._page = b""
        self._missing = int(found[1]) if (found := _length(self._head)) else 0
        if not self._head.startswith(b"HTTP/1.1 200"):
            self.failed(answered(self._head))
            return
        self.came(rest)

    def came(self, data: bytes) -> None:
        self._page += data
        if len(self._page) < self._missing:
            return
        self._tally.take(self.sequences, self._page)
        place = _place(self._page)
        if place is None:
            self.failed(LoadError("the server answered with no page of a channel"))
            return
        self._head, self._has_begun = b"", False
        assert self.transport is not None
        since = f"{place[1].decode()}:{place[2].decode()}"
        self.transport.write(self._get({"since": since, "wait": WAIT}))
        if not self._is_ready:
            self.subscribed()


class ApiPublisher(LoadClient):
    """Publishes by `POST /api/publish`, one request behind the other on one connection."""

    @property
    def target(self) -> str:
        return "/api/publish"

    def request(self) -> bytes:
        self.subscribed()
        return b""

    def publish(self, data: bytes) -> None:
        body = b'{"channel":%b,"data":%b}' % (msgspec.json.encode(self.channel), data)
        head = (
            f"POST {self.path()} HTTP/1.1\r\nHost: {urlsplit(self._plan.url).netloc}\r\n"
            f"X-API-Key: {self._plan.api_key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(head.encode() + body)

    def data_received(self, data: bytes) -> None:
        if b'"error"' in data or not (data.startswith(b"HTTP/1.1 2") or b"HTTP/1.1 " not in data):
            self.refused(data.rpartition(b"\r\n\r\n")[2].decode(errors="replace")[:200] or "the server API refused")

    def begun(self, rest: bytes) -> None:
        raise AssertionError

    def came(self, data: bytes) -> None:
        raise AssertionError
