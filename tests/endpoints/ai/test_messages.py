"""What else a channel's clients get while a run writes there: the messages so far, or a word that something is done."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from freshet import Freshet, Run
from freshet.config import Config, Tokens
from freshet.endpoints.ai.ag_ui import AgUiStream
from freshet.endpoints.ai.ai_sdk import UiMessageStream
from freshet.endpoints.ai.chat_socket import SocketChunks
from freshet.endpoints.ai.responses import ResponseStream
from freshet.endpoints.ai.streams import Messages, Once, RunStream
from freshet.errors import Disconnect
from freshet.model.frame import Handshake
from tests.tools.patience import eventually

CHANNEL = "ai:1"
DIALECTS: list[Callable[[str], RunStream]] = [
    lambda run: Messages(CHANNEL),
    lambda run: Once(CHANNEL),
    lambda run: UiMessageStream(CHANNEL),
    lambda run: SocketChunks(UiMessageStream(CHANNEL), "1", resumes=True),
    lambda run: AgUiStream(CHANNEL, run, asked=run),
    lambda run: ResponseStream(CHANNEL, run, streams=False),
]


@pytest.mark.parametrize("dialect", DIALECTS, ids=["messages", "once", "ai_sdk", "socket", "ag_ui", "responses"])
async def test_who_is_still_there_when_a_run_writes_on_disturbs_nobody(
    dialect: Callable[[str], RunStream], caplog: pytest.LogCaptureFixture
) -> None:
    """A page that opens in the middle of an answer asks for the messages: its session may get what is written next."""
    live = Freshet(environment={}, config=Config(tokens=Tokens(anonymous=True)))
    goes_on = asyncio.Event()

    @live.run("ai:{chat}")
    async def answer(run: Run, message: str, chat: str) -> None:
        await run.write("one")
        await goes_on.wait()
        await run.write("two")

    async with live.lifespan():
        run = await live.start(CHANNEL, "hello")
        sessions = [live._dispatcher.open(it, Handshake("/")) for it in (UiMessageStream(CHANNEL), dialect(run.run))]
        for session in sessions:
            session.open()
        await eventually(lambda: all(CHANNEL in session.subscriptions for session in sessions))
        came: list[bytes] = []
        await eventually(lambda: b"one" in b"".join(came) or came.extend(it.data for it in sessions[0].outbox.take()))
        goes_on.set()
        await eventually(lambda: b"two" in b"".join(came) or came.extend(it.data for it in sessions[0].outbox.take()))
        sessions[1].end(Disconnect.normal())
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []
