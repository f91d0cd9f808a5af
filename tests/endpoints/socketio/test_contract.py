"""The contract of transports, over Engine.IO long polling, with Socket.IO's own events for the commands."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.contracts.transport import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.transport import Dial, Ended, Link
from tests.tools.patience import seconds
from tests.tools.serving import Server, serving

OPEN = "/socket.io/?EIO=4&transport=polling"
SEPARATOR = "\x1e"

# Limits are others here. A body that is too large is refused, and the session goes on: see test_engine.py.
del test_what_is_larger_than_all_that_a_client_may_send_at_once_ends_the_session  # noqa: F821
del test_a_command_that_is_too_large_is_refused_with_the_option_and_the_session_goes_on  # noqa: F821


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("tests.transports.application:live") as server:
        yield server


class PollingLink(Link):
    """Commands are posted as packets; what a poll brings becomes replies. Who does not receive does not poll."""

    says_why = False  # a close packet has no code
    gives_offsets = False  # nor has an event a place for one, where the namespace does not recover

    def __init__(self, http: httpx.AsyncClient) -> None:
        super().__init__()
        self._http = http
        self._url = ""
        self._connecting = 0
        self._asked: dict[int, str] = {}
        self._packets: list[str] = []

    async def open(self) -> None:
        answer = await self._http.get(OPEN)
        self._url = f"{OPEN}&sid={json.loads(answer.text[1:])['sid']}"

    async def send(self, text: str) -> None:
        answer = await self._http.post(self._url, content=SEPARATOR.join(map(self._packet, text.split("\n"))))
        assert answer.status_code in (200, 400), answer.text

    def _packet(self, line: str) -> str:
        try:
            command = json.loads(line)
            (name,) = set(command) - {"id"}
        except ValueError:
            return "3" if line == "{}" else f"4{line}"
        if name == "connect":
            self._connecting = command["id"]
            return "40"
        self._asked[command["id"]] = name
        return f"42{command['id']}{json.dumps([name, *self._arguments(command[name])])}"

    @staticmethod
    def _arguments(request: dict[str, Any]) -> list[Any]:
        data = [request["data"]] if "data" in request else []
        place = {key: request[key] for key in ("epoch", "offset") if key in request}
        return [request["channel"], *data, *([place] if place else [])]

    async def receive(self) -> str:
        while True:
            while not self._packets:
                answer = await self._http.get(self._url)
                if answer.status_code != 200:
                    raise Ended(0, answer.text)
                self._packets = answer.text.split(SEPARATOR)
            packet = self._packets.pop(0)
            if packet == "1":
                raise Ended(0, "closed")
            if (reply := self._reply(packet)) is not None:
                return json.dumps(reply)

    def _reply(self, packet: str) -> dict[str, Any] | None:
        kind, rest = packet[:2], packet[2:]
        if packet == "2":
            return {}
        if kind == "40":
            return {"id": self._connecting, "connect": json.loads(rest)}
        if kind == "42":
            return {"push": {"pub": {"data": json.loads(rest)[1]}}}
        if kind == "43":
            id, _, values = rest.partition("[")
            name, value = self._asked.pop(int(id)), (json.loads(f"[{values}") or [{}])[0]
            return {"id": int(id), **(value if isinstance(value, dict) and "error" in value else {name: value})}
        assert packet == "6"
        return None

    async def missed(self, answer: dict[str, Any], count: int) -> list[Any]:
        """They come as events, behind the acknowledgement."""
        return [(await self.push())["pub"]["data"] for _ in range(count)]

    def cut(self) -> None:
        """From now on it does not poll."""


@pytest.fixture
def dial() -> Dial:
    @asynccontextmanager
    async def open_link(server: Server) -> AsyncIterator[Link]:
        async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(10)) as http:
            link = PollingLink(http)
            await link.open()
            yield link

    return open_link
