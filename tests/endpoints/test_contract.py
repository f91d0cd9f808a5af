"""The contract of transports, over the long poll of a channel's URL: each page goes on where the one before stopped."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.contracts.transport import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.transport import Dial, Link, api, subscribed
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server, serving

WAIT = 20  # seconds

# What single requests cannot do by nature.
# A reader of pages is in no channel's presence; that it leaves nothing behind is tested below.
del test_clients_that_vanish_leave_nothing_behind  # noqa: F821
# Nothing is kept for a reader between two polls: what it does not read stays in the log.
del test_a_client_that_does_not_read_is_cut_and_slows_nobody  # noqa: F821
# There are no heartbeats: whoever waits is there.
del test_a_client_that_does_not_answer_heartbeats_is_sent_away  # noqa: F821
# There is no session to end: any text may be published, and what is too large is refused. See test_channels.py.
del test_what_is_malformed_ends_the_session  # noqa: F821
del test_what_is_larger_than_all_that_a_client_may_send_at_once_ends_the_session  # noqa: F821
del test_a_command_that_is_too_large_is_refused_with_the_option_and_the_session_goes_on  # noqa: F821
# Each request publishes one.
del test_a_batch_beyond_the_backlog_and_the_size_of_a_message_is_carried_out_in_order  # noqa: F821


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("tests.transports.application:live") as server:
        yield server


class PageLink(Link):
    """A subscription is the place at which the next page begins; a publication is a request of its own."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        super().__init__()
        self._http = http
        self._channel = ""
        self._since = ""
        self._replies: deque[dict[str, Any]] = deque()

    async def send(self, text: str) -> None:
        for line in text.split("\n"):
            command = json.loads(line)
            id = command.pop("id")
            ((name, request),) = command.items()
            perform = {"connect": self._connect, "subscribe": self._subscribe, "publish": self._publish}[name]
            done = await perform(request)
            self._replies.append({"id": id, **(done if "error" in done else {name: done})})

    async def _connect(self, request: dict[str, Any]) -> dict[str, Any]:
        return {}

    async def _subscribe(self, request: dict[str, Any]) -> dict[str, Any]:
        self._channel = request["channel"]
        since = f"{request['epoch']}:{request['offset']}" if request.get("recover") else ""
        page = await self._page(**({"since": since} if since else {"limit": 0}))
        return {name: page[name] for name in ("epoch", "offset", "recovered", "publications")}

    async def _publish(self, request: dict[str, Any]) -> dict[str, Any]:
        answer = await self._http.post(f"/channels/{request['channel']}", json=request["data"])
        if answer.status_code == 429:
            assert "retry-after" in answer.headers
            refused = answer.json()
            return {"error": {"code": refused["code"] - 4000, "message": refused["message"]}}
        place: dict[str, Any] = answer.raise_for_status().json()
        return place

    async def _page(self, **query: Any) -> dict[str, Any]:
        answer = await self._http.get(f"/channels/{self._channel}", params=query)
        page: dict[str, Any] = answer.raise_for_status().json()
        assert page["recovered"]
        self._since = f"{page['epoch']}:{page['offset']}"
        return page

    async def receive(self) -> str:
        while not self._replies:
            page = await self._page(since=self._since, wait=WAIT)
            self._replies.extend({"push": {"pub": publication}} for publication in page["publications"])
        return json.dumps(self._replies.popleft())

    def cut(self) -> None:
        """Between two requests there is nothing to cut."""


@pytest.fixture
def dial() -> Dial:
    @asynccontextmanager
    async def open_link(server: Server) -> AsyncIterator[Link]:
        async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(WAIT + 5)) as http:
            yield PageLink(http)

    return open_link


async def test_readers_that_vanish_while_they_wait_leave_nothing_behind(
    server: Server, dial: Dial, channel: str
) -> None:
    async def waiting() -> int:
        found = await api(server, "channels", pattern=channel)
        return int(found["channels"].get(channel, {}).get("num_clients", 0))

    async with AsyncExitStack() as stack:
        links = [(await stack.enter_async_context(subscribed(dial, server, channel)))[0] for _ in range(20)]
        polls = [asyncio.create_task(link.receive()) for link in links]
        await eventually(lambda: _is(waiting, 20), 5, "all to wait")
        for poll in polls:
            poll.cancel()
        await eventually(lambda: _is(waiting, 0), 5, "nothing of them")


async def _is(count: Any, expected: int) -> bool:
    return bool(await count() == expected)
