"""The commands of one client that wait: their order, how many are decoded, and when they stop."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

from freshet.errors import Disconnect
from freshet.model.commands import Command, Ping
from freshet.model.frame import Frame
from freshet.session.backlog import Backlog
from freshet.session.outbox import Outbox, Turn
from tests.tools.patience import eventually

LIMIT = 10  # commands


class Client:
    """Whose commands they are. ran: the ids of those that were run, each of which takes a turn of the event loop."""

    def __init__(self) -> None:
        self.outbox = Outbox(Turn(), limit=100)
        self.ended: Disconnect | None = None
        self.ran: list[int] = []
        self.failures: list[Exception] = []
        self.backlog: Backlog | None = Backlog(self, self.run, LIMIT, lambda: 1.0)

    def run(self, command: Command) -> Coroutine[Any, Any, None] | None:
        return self._run(command)

    async def _run(self, command: Command) -> None:
        assert isinstance(command, Ping)
        await asyncio.sleep(0)
        if not command.id:
            raise Disconnect.bad_request("a ping of nobody")
        self.ran.append(command.id)

    def failed(self, why: Exception) -> None:
        self.failures.append(why)

    def caught_up(self) -> None:
        self.backlog = None


def frame(*ids: int, decoded: list[int] | None = None) -> Iterator[Command]:
    """The commands of a large frame. decoded: gets the ids of those that were asked for."""
    for id in ids:
        if decoded is not None:
            decoded.append(id)
        yield Ping(id)


async def test_what_comes_while_a_command_runs_is_run_behind_it() -> None:
    client = Client()
    backlog = client.backlog
    assert backlog is not None
    backlog.put([Ping(1), Ping(2)], heavy=False)
    work = asyncio.create_task(backlog.work())
    await asyncio.sleep(0)  # the first is under way
    backlog.put([Ping(3)], heavy=False)
    await work
    assert client.ran == [1, 2, 3]
    assert client.backlog is None


async def test_of_a_large_frame_no_more_is_decoded_than_may_wait_and_what_comes_later_stays_behind_it() -> None:
    client, decoded, last = Client(), list[int](), list[int]()
    backlog = client.backlog
    assert backlog is not None
    backlog.put(frame(*range(1, 30), decoded=decoded), heavy=False)
    backlog.put(frame(30, decoded=last), heavy=False)
    assert (len(decoded), last) == (LIMIT, [])
    assert backlog.full
    assert backlog.holds_bytes
    await backlog.work()
    assert client.ran == [*range(1, 31)]


async def test_behind_a_command_that_ends_the_client_nothing_is_run_and_nothing_is_kept() -> None:
    client = Client()
    backlog = client.backlog
    assert backlog is not None
    backlog.put([Ping(1), Ping(0), Ping(2)], heavy=False)
    await backlog.work()
    assert client.ran == [1]
    assert [type(why) for why in client.failures] == [Disconnect]
    assert client.backlog is None


async def test_a_client_that_has_much_to_read_gets_no_more_of_what_it_asks_for_and_its_transport_is_woken_after() -> (
    None
):
    client, woken = Client(), list[bool]()
    backlog = client.backlog
    assert backlog is not None
    client.outbox.push(Frame(b"x" * 60))
    backlog.put([Ping(1)], heavy=False)
    work = asyncio.create_task(backlog.work())
    await eventually(lambda: backlog.crowded_since)
    assert client.ran == []
    client.outbox.attach(lambda: woken.append(client.backlog is None))
    client.outbox.take()
    await work
    assert client.ran == [1]
    assert backlog.crowded_since == 0
    assert woken[-1]
