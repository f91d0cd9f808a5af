"""What whoever comes gets first, whatever is written meanwhile and whatever is lost on its way."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from freshet import Freshet, Run
from freshet.config import Config, Tokens
from freshet.errors import EngineUnavailable
from freshet.runs.log import RunLog
from freshet.runs.viewing import Digest
from tests.races.clients import Doors, SocketIOClient
from tests.tools.patience import eventually


class Watching(SocketIOClient):
    """One that keeps what it was given, in its order: the acknowledgement as a list, events as they are."""

    def __init__(self, doors: Doors, pid: str = "") -> None:
        super().__init__(doors, pid)
        self.given: list[Any] = []

    def _take(self, packet: str) -> None:
        if packet[:2] == "42":
            self.given.append(json.loads(packet[2:])[1])
        elif packet[:2] == "43":
            self.given.append(json.loads(packet[packet.index("[") :]))
        else:
            super()._take(packet)

    async def gets(self, number: int) -> list[Any]:
        def enough() -> bool:
            self.read()
            return len(self.given) >= number

        await eventually(enough)
        return self.given

    async def comes(self) -> None:
        def inside() -> bool:
            self.read()
            return self.connected

        self.connect()
        await eventually(inside)


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    live = Freshet(config=Config(tokens=Tokens(anonymous=True)))
    live.namespace("/", recovery=60)

    @live.run("chat:{chat}")
    async def answer(run: Run, message: str, chat: str) -> None:
        await run.write(message)

    async with live.lifespan():
        yield live


async def test_what_a_run_writes_while_a_client_of_socketio_comes_follows_the_summary(live: Freshet) -> None:
    await live.start("chat:1", "first", id="one")
    await eventually(lambda: live._runs.statistics()[1] == 0)
    summarize = live._runs.summarize

    async def slowly(channel: str) -> Digest:
        digest = await summarize(channel)
        await live.start("chat:1", "second", id="two")
        return digest

    live._node.summarizers["run"].summarize = slowly  # type: ignore[method-assign]
    client = Watching(Doors(live))
    await client.comes()
    client.subscribe("chat:1")
    acknowledgement, summary, event, *_ = await client.gets(3)
    assert acknowledgement[0]["channel"] == "chat:1"
    assert [message["id"] for message in summary["messages"]] == ["one:ask", "one"]
    assert (event["run"], event["seq"]) == ("two", 0)
    client.leave()


async def test_a_client_of_socketio_that_was_cut_before_it_had_the_summary_gets_it_when_it_resumes(
    live: Freshet,
) -> None:
    await live.start("chat:1", "first", id="one")
    await eventually(lambda: live._runs.statistics()[1] == 0)
    client = Watching(Doors(live))
    await client.comes()
    session = client.session
    assert session is not None
    client.subscribe("chat:1")
    await eventually(lambda: "chat:1" in session.subscriptions)
    await eventually(lambda: not len(live._node.tasks))
    client.leave()  # it has read nothing of that
    again = Watching(Doors(live), client.pid)
    await again.comes()
    assert again.resumed
    (summary,) = await again.gets(1)
    assert [message["id"] for message in summary["messages"]] == ["one:ask", "one"]
    again.leave()


async def test_messages_that_could_not_be_read_once_are_there_when_they_can(
    live: Freshet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await live.start("chat:1", "first", id="one")
    await eventually(lambda: live._runs.statistics()[1] == 0)
    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "filed", _away)
        with pytest.raises(EngineUnavailable):
            await live.messages("chat:1")
    assert [message["id"] for message in await live.messages("chat:1")] == ["one:ask", "one"]


async def _away(journal: RunLog) -> None:
    raise EngineUnavailable("away")
