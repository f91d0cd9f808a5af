"""What every transport has to do. A test module gives two fixtures and imports all of this.

server: `tests/transports/application.py`, running. dial: opens a `Link`, a client of the JSON dialect.
Whether the server's end is told (3001) is up to who serves, so that it is not in here.
"""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar
from uuid import uuid4

import httpx
import pytest

from tests.tools.clients import soon
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server

FLOOD = 80  # batches
BATCH = 5  # publications: so few that a round of them takes no longer than a pong may, on a busy machine, too
LONG = 60_000  # bytes of each: together far more than sockets and outbox hold


class Ended(Exception):
    """The server ended it. code, reason: why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Link(ABC):
    """A client that says exactly what it is told to.

    says_why: the end of a session has its code. gives_offsets: each publication has its offset.
    """

    says_why: ClassVar[bool] = True
    gives_offsets: ClassVar[bool] = True

    def __init__(self) -> None:
        self._waiting: list[dict[str, Any]] = []
        self._id = 0
        self.answers_pings = True

    @abstractmethod
    async def send(self, text: str) -> None:
        """One message."""

    @abstractmethod
    async def receive(self) -> str:
        """The next message, without a limit of time. Raises `Ended`."""

    @abstractmethod
    def cut(self) -> None:
        """Lose the connection without a word."""

    async def ask(self, **command: Any) -> dict[str, Any]:
        """The reply; what comes before it waits."""
        self._id += 1
        id = self._id
        await self.send(json.dumps({"id": id, **command}))
        return await self._next(lambda reply: reply.get("id") == id)

    async def push(self) -> dict[str, Any]:
        push: dict[str, Any] = (await self._next(lambda reply: "push" in reply))["push"]
        return push

    async def missed(self, answer: dict[str, Any], count: int) -> list[Any]:
        """The data that a subscription brought along. answer: the reply to `subscribe`."""
        return [pub["data"] for pub in answer["publications"]]

    async def ended(self, *codes: int) -> Ended:
        """Read until the server ends it, with one of `codes`, where the transport has them."""
        with pytest.raises(Ended) as end:
            await self._next(lambda reply: False)
        assert end.value.code in codes or not self.says_why, end.value
        return end.value

    async def _next(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            for reply in self._waiting:
                if wanted(reply):
                    self._waiting.remove(reply)
                    return reply
            for line in (await soon(self.receive())).split("\n"):
                reply = json.loads(line)
                if reply:
                    self._waiting.append(reply)
                elif self.answers_pings:
                    await self.send("{}")


Dial = Callable[[Server], AbstractAsyncContextManager[Link]]


@asynccontextmanager
async def subscribed(dial: Dial, server: Server, channel: str, **options: Any) -> AsyncIterator[tuple[Link, Any]]:
    async with dial(server) as link:
        await link.ask(connect={})
        yield link, (await link.ask(subscribe={"channel": channel, **options}))["subscribe"]


@pytest.fixture
def channel() -> str:
    return f"log:{uuid4().hex}"


async def api(server: Server, method: str, **request: Any) -> Any:
    async with httpx.AsyncClient(timeout=seconds(10)) as http:
        answer = (await http.post(server.http(f"/api/{method}"), json=request)).json()
        return answer.get("result", answer)


async def held(server: Server, channel: str) -> tuple[int, int]:
    """Who listens to a channel, and who is in it."""
    listening = await api(server, "channels", pattern=channel)
    present = await api(server, "presence_stats", channel=channel)
    return len(listening["channels"]), present["num_clients"]


async def test_a_thousand_publications_arrive_in_order(server: Server, dial: Dial, channel: str) -> None:
    async with subscribed(dial, server, channel) as (link, _), subscribed(dial, server, channel) as (other, _):
        for number in range(0, 1000, 50):  # fifty commands in a message
            commands = [{"id": 100 + n, "publish": {"channel": channel, "data": n}} for n in range(number, number + 50)]
            await other.send("\n".join(map(json.dumps, commands)))
        for listener in (link, other):
            got = [(await listener.push())["pub"] for _ in range(1000)]
            assert [pub["data"] for pub in got] == list(range(1000))
            if listener.gives_offsets:
                assert [pub["offset"] for pub in got] == list(range(1, 1001))


async def test_who_lost_the_connection_gets_what_was_missed(server: Server, dial: Dial, channel: str) -> None:
    async with subscribed(dial, server, channel) as (link, position):
        offset = (await api(server, "publish", channel=channel, data="received"))["offset"]
        assert (await link.push())["pub"]["data"] == "received"
        link.cut()
    for text in ("missed", "too"):
        await api(server, "publish", channel=channel, data=text)
    since = {"recover": True, "epoch": position["epoch"], "offset": offset}
    async with subscribed(dial, server, channel, **since) as (link, answer):
        assert answer["recovered"] is True
        assert await link.missed(answer, 2) == ["missed", "too"]
        await api(server, "publish", channel=channel, data="live")
        assert (await link.push())["pub"]["data"] == "live"


async def test_clients_that_vanish_leave_nothing_behind(server: Server, dial: Dial, channel: str) -> None:
    async with AsyncExitStack() as stack:
        opened = (stack.enter_async_context(subscribed(dial, server, channel)) for _ in range(20))
        links = [link for link, _ in await asyncio.gather(*opened)]  # before the first has to answer a heartbeat
        assert await held(server, channel) == (1, 20)
        for link in links[::2]:
            await link.send("\n".join(json.dumps({"id": n, "history": {"channel": channel}}) for n in range(100, 200)))
        for link in links:
            link.cut()
    await eventually(lambda: _gone(server, channel), 10, "nothing of them")


async def _gone(server: Server, channel: str) -> bool:
    return await held(server, channel) == (0, 0)


async def test_a_client_that_does_not_read_is_cut_and_slows_nobody(server: Server, dial: Dial) -> None:
    async with subscribed(dial, server, "flood") as (slow, _), subscribed(dial, server, "flood") as (quick, _):
        for number in range(FLOOD):
            await slow.send("{}")  # it is there
            command = {"publish": {"channel": "flood", "data": [number, "x" * LONG]}}
            await api(server, "batch", commands=[command] * BATCH)
            for _ in range(BATCH):
                assert (await quick.push())["pub"]["data"][0] == number
            if (await api(server, "channels", pattern="flood"))["channels"]["flood"]["num_clients"] == 1:
                break
        slow.answers_pings = False  # to a socket that is closed: the reset would take with it what was not read yet
        end = await slow.ended(3008)
        assert end.reason == "slow" or not slow.says_why


async def test_a_client_that_does_not_answer_heartbeats_is_sent_away(server: Server, dial: Dial) -> None:
    async with dial(server) as silent, dial(server) as alive:
        silent.answers_pings = False
        await silent.ask(connect={})
        await alive.ask(connect={})
        listening = asyncio.create_task(alive.ended())
        await silent.ended(3012)
        assert not listening.done()
        listening.cancel()


@pytest.mark.parametrize("message", ["{", '{"id": 1}', "[]"])
async def test_what_is_malformed_ends_the_session(server: Server, dial: Dial, message: str) -> None:
    async with dial(server) as link:
        await link.send(message)
        await link.ended(3501)


async def test_what_is_larger_than_all_that_a_client_may_send_at_once_ends_the_session(
    server: Server, dial: Dial
) -> None:
    async with dial(server) as link:
        await link.send("x" * 3_000_000)
        await link.ended(1009)


async def test_a_command_that_is_too_large_is_refused_with_the_option_and_the_session_goes_on(
    server: Server, dial: Dial, channel: str
) -> None:
    async with subscribed(dial, server, channel) as (link, _):
        error = (await link.ask(publish={"channel": channel, "data": "x" * 70_000}))["error"]
        assert (error["code"], "at most 65536, see limits.message_size" in error["message"]) == (106, True)
        assert "error" not in await link.ask(publish={"channel": channel, "data": "short"})
        assert (await link.push())["pub"]["data"] == "short"


async def test_a_batch_beyond_the_backlog_and_the_size_of_a_message_is_carried_out_in_order(
    server: Server, dial: Dial, channel: str
) -> None:
    async with subscribed(dial, server, channel) as (link, _), subscribed(dial, server, channel) as (other, _):
        numbers = range(1000)  # in one message, of more than 64 KiB
        commands = [{"id": 100 + n, "publish": {"channel": channel, "data": n}} for n in numbers]

        async def got(listener: Link) -> list[Any]:
            return [(await listener.push())["pub"]["data"] for _ in numbers]

        sending = other.send("\n".join(map(json.dumps, commands)))
        _, *received = await asyncio.gather(sending, got(link), got(other))
        assert received == [list(numbers)] * 2


async def test_a_channel_takes_of_its_clients_what_its_rate_says_and_refuses_the_next(
    server: Server, dial: Dial, channel: str
) -> None:
    async with subscribed(dial, server, channel) as (link, _), subscribed(dial, server, channel) as (other, _):
        for number in range(0, 1200, 50):
            commands = [{"id": 100 + n, "publish": {"channel": channel, "data": n}} for n in range(number, number + 50)]
            await other.send("\n".join(map(json.dumps, commands)))
        for listener in (link, other):
            assert [(await listener.push())["pub"]["data"] for _ in range(1200)] == list(range(1200))
        error = (await link.ask(publish={"channel": channel, "data": "one more"}))["error"]
        assert (error["code"], "too many requests" in error["message"]) == (111, True)
        assert "error" not in await link.ask(publish={"channel": f"{channel}-another", "data": 1})
