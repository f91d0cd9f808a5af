"""What a client says of its own message: that is shown to all of its chat, and is never taken for what a run has said.

A run's message is a model's answer, and what `live.messages` gives goes to a model: who could write one, or one of the
role `system`, would speak with its voice, or tell it what to do. And what cannot be read would be there for days.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from freshet import Freshet, Run
from freshet.config import Config, Limits, Rates
from freshet.config.limits import RATES
from freshet.config.shapes import Rate
from freshet.errors import Refusal
from freshet.model.log import Publication
from freshet.model.run_messages import ChatState, RunEvent, RunRecord, decode_summary, encode
from tests.endpoints.ai.test_rights import Socket
from tests.tools.asgi import knock
from tests.tools.patience import eventually, seconds

JSON = {"content-type": "application/json"}
TEXT = [{"type": "text", "text": "hello"}]
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "parts": TEXT},
    {"role": "assistant", "id": "made-up", "parts": TEXT},
    {"role": "assistant", "id": "first", "parts": TEXT, "metadata": {"run": {"state": "failed", "reason": "made up"}}},
    {"role": [], "parts": TEXT},
    {"role": "assistant", "id": [1], "parts": TEXT},
    {"id": "first", "parts": TEXT},
    {"id": "first:ask", "parts": TEXT},
    {"id": {}, "parts": TEXT},
    {"id": 5, "parts": TEXT},
    {"parent": [1], "parts": TEXT},
    {"parent": "first", "parts": TEXT},
    {"parts": [1, None, "approval", [], {"approval": 1}, {"approval": {}}, {"type": []}]},
]
RAW = [
    "1e400",
    "-1e400",
    "9" * 4000,
    '"\\ud800"',
    '"\\u0000"',
    '{"parts":[{"type":"text","text":"a","n":1e400}]}',
    '{"id":"\\ud800","parts":[]}',
    '{"$start":1e400}',
    '{"$start":{"parts":[1e400]},"run":"r"}',
    '{"a":1,"a":2}',
]


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    config = Config(
        limits=Limits(connects_per_second=0, frame_size=100_000), rates=Rates(**{name: Rate(0, 1) for name in RATES})
    )
    live = Freshet(dev=True, environment={}, config=config)

    @live.run("ai:long", publish="client")
    async def much(run: Run, message: Any) -> None:
        for number in range(100):
            await run.source(f"https://example.org/{number}")
        await asyncio.Event().wait()

    @live.run("ai:{chat}", publish="client")
    async def answer(run: Run, message: Any, chat: str) -> None:
        await run.history()
        await run.write("the answer")

    async with live.lifespan():
        yield live
        await live.stop("ai:long")


async def is_read_everywhere(live: Freshet, chat: str, caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The messages of a chat, which who comes later gets by every door."""
    for path, least in (
        (f"/ai/ai/{chat}/messages", 200),
        (f"/ai/ai/{chat}/stream", 204),
        (f"/ag-ui/ai/{chat}/runs/first/events", 200),
        (f"/ag-ui/ai/{chat}/runs/none/events", 404),
        (f"/openai/ai/v1/responses/resp_{chat}.made-up", 404),
    ):
        assert (await knock(live, "GET", path)).status == least, path
    async with live.test_client("later") as later:
        summary = (await later.subscribe(f"ai:{chat}")).missed[0].data
    messages = await live.messages(f"ai:{chat}")
    assert summary["messages"][-len(messages) :] == messages
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []
    return summary["messages"]  # type: ignore[no-any-return]


async def say(live: Freshet, way: str, chat: str, message: dict[str, Any]) -> None:
    if way == "publish":
        async with live.test_client("mallory") as mallory:
            await mallory.subscribe(f"ai:{chat}")
            await mallory.publish(f"ai:{chat}", message)
    elif way == "post":
        await knock(live, "POST", f"/channels/ai:{chat}", JSON, json.dumps(message).encode())
    else:
        body = {"id": chat, "messages": [message]} if way == "ai sdk" else {"threadId": chat, "messages": [message]}
        await knock(live, "POST", "/ai/ai" if way == "ai sdk" else "/ag-ui/ai", JSON, json.dumps(body).encode())


@pytest.mark.parametrize("way", ["publish", "post", "ai sdk", "ag-ui"])
async def test_a_message_of_a_client_is_the_users_whatever_it_says(
    live: Freshet, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number, message in enumerate(MESSAGES):
        chat = f"c{number}"
        await live.start(f"ai:{chat}", "hello", id="first", user="alice")
        await say(live, way, chat, message)
        await asyncio.sleep(seconds(0.02))
        messages = await is_read_everywhere(live, chat, caplog)
        assert [each["role"] for each in messages] == ["user", "assistant"] * (len(messages) // 2), message
        answers = {each["id"] for each in messages if each["role"] == "assistant"}
        questions = {each["id"] for each in messages if each["role"] == "user"}
        assert "first" in answers
        assert "made-up" not in answers
        assert not answers & questions
        assert all(isinstance(part, dict) for each in messages for part in each["parts"])
        assert all(isinstance(each.get("parent", ""), str) for each in messages)


async def test_whatever_json_a_client_sends_its_chat_can_be_read_by_others(
    live: Freshet, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [*RAW, *("[" * deep + "]" * deep for deep in range(900, 1000, 3))]
    for number, text in enumerate(texts):
        chat = f"r{number}"
        await live.start(f"ai:{chat}", "hello", id="first", user="alice")
        await knock(live, "POST", f"/channels/ai:{chat}", JSON, text.encode())
        await asyncio.sleep(seconds(0.01))
        await is_read_everywhere(live, chat, caplog)


@pytest.mark.parametrize("form", ["%s", '{"$start":%s}', '{"$steer":%s}', '{"parts":[%s]}'])
async def test_a_message_of_many_levels_is_refused(live: Freshet, form: str) -> None:
    """What the interpreter just bears when it comes, it may not bear any more where it is read."""
    await live.start("ai:long", "hello")
    for levels, refused in ((190, False), (201, True), (900, True)):
        text = (form % ("[" * levels + "]" * levels)).encode()
        answer = await knock(live, "POST", "/channels/ai:long", JSON, text)
        assert (answer.status == 400 and b"levels" in answer.body) == refused, answer
    with pytest.raises(Refusal, match="levels"):
        await live.start("ai:long", json.loads("[" * 201 + "]" * 201))


def test_a_question_is_never_called_as_an_answer() -> None:
    """However runs and messages are called: parts of a run are for the message with its id."""
    state = ChatState()
    for at, (run, message) in enumerate(
        [("a", "b"), ("b", "a"), ("a:ask", "a:ask"), ("b:ask", "c"), ("c", "b:ask")], 1
    ):
        event = RunEvent(run, 0, [], "running", encode({"id": message, "parts": []}))  # type: ignore[arg-type]
        state.apply(Publication(encode(event), at, tags={"run": run}))
    messages = decode_summary(state.summary([])).messages
    answers = [each["id"] for each in messages if each["role"] == "assistant"]
    assert sorted(answers) == ["a", "a:ask", "b", "b:ask", "c"]
    assert not set(answers) & {each["id"] for each in messages if each["role"] == "user"}


def test_what_was_kept_before_is_read_as_well() -> None:
    assert RunRecord("r", input=encode({"role": "system", "id": 1, "parts": [2]})).question() == {  # type: ignore[arg-type]
        "id": "r:ask",
        "role": "user",
        "parts": [],
    }


# -------------------------------------------------------------------------------------------------------------- bounds


async def test_no_id_of_a_request_is_so_long_that_each_frame_of_its_answer_costs_much(live: Freshet) -> None:
    await live.start("ai:long", "hello")
    async with Socket(live) as socket:
        for size, answer in ((10_000, "error"), (200, "start")):
            id = "x" * size
            socket.say(type="resume", requestId=id, id="long")
            wanted = f'{{"type":"{answer}","requestId":"{id}"'
            await eventually(lambda wanted=wanted: any(wanted in each.get("text", "") for each in socket.got))
    assert sum(len(each.get("text", "")) for each in socket.got) < 100_000


@pytest.mark.parametrize("path", ["/openai/ai/v1/chat/completions", "/openai/ai/v1/responses"])
async def test_no_models_name_is_so_long_that_each_chunk_costs_much(live: Freshet, path: str) -> None:
    body = {"messages": [{"role": "user", "content": "a"}], "input": "a", "stream": True}
    for size, status in ((256, 200), (257, 400)):
        answer = await knock(live, "POST", path, JSON, json.dumps({**body, "model": "m" * size}).encode())
        assert answer.status == status


async def test_bodies_that_are_too_large_are_one_kind_of_line_whatever_their_path(
    live: Freshet, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(20):
        for path in (f"/ai/{number}%0aline", f"/ag-ui/{number}", f"/openai/{number}/v1/responses"):
            assert (await knock(live, "POST", path, JSON, b" " * 100_001)).status == 413
    (line,) = [each.getMessage() for each in caplog.records if "413" in each.getMessage()]
    assert "line" not in line
