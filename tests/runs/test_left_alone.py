"""Somebody sees to each channel in which something is to go on, whatever was lost of who did."""

from pathlib import Path

import pytest

from freshet import Freshet, Run
from freshet.errors import EngineUnavailable
from freshet.model.run_messages import ChatState, RunEvent
from freshet.runs.log import RunLog
from tests.runs.test_nodes import join
from tests.runs.two import ENGINES, nodes
from tests.tools.patience import eventually, seconds

CHANNEL = "chat:1"


def asking(live: Freshet) -> None:
    @live.run("chat:{chat}")
    async def answer(run: Run, message: int, chat: str) -> None:
        await run.ask(await run.tool("delete", {}, id=f"{run.id}:tool"))

    @answer.on_approval
    async def go_on(run: Run, message: int, chat: str) -> None:
        await run.write("done")


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_run_that_no_node_is_left_to_know_of_ends_once_somebody_returns_who_has_missed_nothing_else(
    kind: str, tmp_path: Path
) -> None:
    async with nodes(kind, tmp_path, asking, idle=0.1) as here, here.b.test_client() as client:
        viewer = await join(client)
        await client.disconnect()
        runs = here.b._runs
        await eventually(lambda: not runs._viewing._views)
        journal = runs._log(CHANNEL, runs._rule(CHANNEL))  # as of a node that is gone with all others
        state = await journal.read()
        await journal.append(state, RunEvent("r1", 0, [{"type": "start", "messageId": "r1"}], "running"), lambda: 1)
        await client.reconnect()
        while not viewer.has_ended("r1"):
            viewer.take((await client.receive(CHANNEL, within=seconds(10))).data)
        assert (viewer.states["r1"], viewer.summaries) == ("failed", 0)


class Logs:
    """Those of runs. away: they cannot be read."""

    away = False


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Logs:
    logs, read = Logs(), RunLog.read

    async def read_unless_away(journal: RunLog) -> ChatState:
        if logs.away:
            raise EngineUnavailable("away")
        return await read(journal)

    monkeypatch.setattr(RunLog, "read", read_unless_away)
    return logs


async def test_what_waits_in_a_channel_that_could_not_be_opened_is_there_when_it_can(
    tmp_path: Path, logs: Logs
) -> None:
    async with nodes("memory", tmp_path, asking, idle=0.1) as here:
        await here.a.start(CHANNEL, 1, id="r1")
        await eventually(lambda: here.a._runs.statistics() == (0, 0), 10)
        logs.away = True
        for _ in range(2):
            with pytest.raises(EngineUnavailable):
                await here.a.answer(CHANNEL, "")
            await eventually(lambda: here.a._runs.statistics() == (0, 0), 10)
        logs.away = False
        asked = (await here.a.messages(CHANNEL))[-1]["parts"][0]["approval"]["id"]
        await here.a.answer(CHANNEL, asked)
        state = await here.b._runs.look(CHANNEL, "r1")
        assert state is not None
        assert state.state in ("running", "finished")


async def test_a_channel_whose_owner_could_not_open_it_is_opened_by_whoever_owns_it_when_others_find_it_so(
    tmp_path: Path, logs: Logs
) -> None:
    async with nodes("memory", tmp_path, asking) as here, here.b.test_client() as client:
        viewer = await join(client)
        journal = here.b._runs._log(CHANNEL, here.b._runs._rule(CHANNEL))
        state = await journal.read()
        await journal.append(state, RunEvent("r1", 0, [{"type": "start", "messageId": "r1"}], "running"), lambda: 1)
        logs.away = True
        with pytest.raises(EngineUnavailable):
            await here.a.stop(CHANNEL)
        here.a._runs._watching._seen.clear()  # as one that has come into the cluster since
        logs.away = False
        here.b._runs._watching.suspect(CHANNEL)
        while not viewer.has_ended("r1"):
            viewer.take((await client.receive(CHANNEL, within=seconds(10))).data)
        assert viewer.states["r1"] == "failed"
        assert list(here.a._runs._chats) == [CHANNEL]
