"""OpenAI's own clients, in Python and in Node, against the door that is made for them."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIError, AsyncOpenAI, NotFoundError, UnprocessableEntityError

from freshet.policy.tokens import issue
from tests.runs.chat_app import SECRET
from tests.tools.need import require
from tests.tools.patience import seconds
from tests.tools.serving import Server, serving

APP = "tests.runs.chat_app:live"
COUNTED = "".join(f"{number} " for number in range(30))


@pytest.fixture(scope="module", params=["1", "2"], ids=["one worker", "two workers"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(APP, "--workers", request.param) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=server.http("/openai/chat/v1"), api_key=issue(SECRET, "alice"), timeout=seconds(10)
    ) as client:
        yield client


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def test_a_completion_is_whole_or_a_stream(client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="m", messages=said("count 30 1"))
    assert whole.choices[0].message.content == COUNTED
    assert whole.choices[0].finish_reason == "stop"
    stream = await client.chat.completions.create(
        model="m", messages=said("think"), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "It is cold."
    calls = [call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
    assert calls[0].function is not None
    assert calls[0].function.name == "weather"
    assert "".join(call.function.arguments or "" for call in calls if call.function) == '{"city": "Oslo"}'
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 10
    assert chunks[-2].choices[0].finish_reason == "stop"


async def test_a_completion_that_fails_says_so(client: AsyncOpenAI) -> None:
    with pytest.raises(UnprocessableEntityError, match="internal server error"):
        await client.chat.completions.create(model="m", messages=said("fail"))
    with pytest.raises(APIError, match="internal server error"):
        async for _ in await client.chat.completions.create(model="m", messages=said("fail"), stream=True):
            pass


async def test_a_response_is_read_as_events_and_whole(client: AsyncOpenAI) -> None:
    async with client.responses.stream(model="m", input="think") as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output_text == "It is cold."
    assert [item.type for item in final.output] == ["reasoning", "function_call", "message"]
    again = await client.responses.retrieve(final.id)
    assert again.output_text == "It is cold."
    assert again.usage is not None
    assert again.usage.total_tokens == 10
    more = await client.responses.create(model="m", input="history", previous_response_id=final.id)
    assert more.output_text == "['think', 'It is cold.']"


async def test_a_stream_of_a_response_is_resumed_at_any_place(client: AsyncOpenAI) -> None:
    begun = await client.responses.create(model="m", input="count 60 10", stream=True, background=True)
    first, id, after = "", "", 0
    async for event in begun:
        after = event.sequence_number
        if event.type == "response.created":
            id = event.response.id
        if event.type == "response.output_text.delta":
            first += event.delta
            if "7 " in first:
                break
    await begun.close()
    text = first
    async for event in await client.responses.retrieve(id, stream=True, starting_after=after):
        assert event.sequence_number > after
        if event.type == "response.output_text.delta":
            text += event.delta
    expected = "".join(f"{number} " for number in range(60))
    assert text == expected
    for place in range(4, 4 + len(expected), 17):  # within deltas, too
        rest = await client.responses.retrieve(id, stream=True, starting_after=place)
        deltas = [event.delta async for event in rest if event.type == "response.output_text.delta"]
        assert "".join(deltas) == expected[place - 3 :]


@pytest.mark.parametrize("text", ["work", "think"])
async def test_what_a_stream_brings_behind_any_place_is_what_it_would_have_brought(
    client: AsyncOpenAI, text: str
) -> None:
    begun = [event async for event in await client.responses.create(model="m", input=text, stream=True)]
    id = begun[0].response.id  # type: ignore[union-attr]
    whole = said_by(begun)
    for after in range(begun[-1].sequence_number + 1):
        rest = [event async for event in await client.responses.retrieve(id, stream=True, starting_after=after)]
        assert said_by(rest) == [each for each in whole if each[0] > after]


def said_by(events: list[Any]) -> list[tuple[int, str, str]]:
    """Each event, and each character of a delta, with its number."""
    found: list[tuple[int, str, str]] = []
    for event in events:
        if event.type.endswith(".delta"):
            first = event.sequence_number - len(event.delta) + 1
            found += [(first + at, event.type, character) for at, character in enumerate(event.delta)]
        else:
            found.append((event.sequence_number, event.type, str(getattr(event, "item", ""))))
    return found


async def test_a_key_is_that_of_who_sent_it(server: Server) -> None:
    seen = []
    alice, bob = issue(SECRET, "alice"), issue(SECRET, "bob")
    for token in (alice, bob, alice):
        async with AsyncOpenAI(base_url=server.http("/openai/chat/v1"), api_key=token) as client:
            headers = {"Idempotency-Key": "one"}
            seen.append((await client.responses.create(model="m", input="history", extra_headers=headers)).id)
    assert seen[0] == seen[2] != seen[1]


async def test_a_response_is_cancelled(client: AsyncOpenAI) -> None:
    begun = await client.responses.create(model="m", input="wait", background=True)
    assert begun.status == "in_progress"
    cancelled = await client.responses.cancel(begun.id)
    assert cancelled.status == "cancelled"
    assert (await client.responses.retrieve(begun.id)).status == "cancelled"
    with pytest.raises(NotFoundError):
        await client.responses.retrieve("resp_none.1")


@asynccontextmanager
async def losing_the_first_answer(server: Server) -> AsyncIterator[str]:
    """A relay that lets the first request reach the server, and cuts its client off once there is an answer."""
    seen, over = 0, asyncio.Event()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        loses = seen == 1
        there_reader, there_writer = await asyncio.open_connection(server.host, server.port)

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool) -> None:
            while data := await source.read(65536):
                if answers and loses:
                    break
                sink.write(data)
            for each in (writer, there_writer):
                each.close()
            with suppress(OSError):
                await asyncio.gather(writer.wait_closed(), there_writer.wait_closed())

        await asyncio.gather(pass_on(reader, there_writer, answers=False), pass_on(there_reader, writer, answers=True))
        over.set()

    relaying = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with relaying:
        yield f"http://127.0.0.1:{relaying.sockets[0].getsockname()[1]}/openai/chat/v1"
    await over.wait()


async def test_a_request_that_is_retried_begins_no_second_run(server: Server, client: AsyncOpenAI) -> None:
    async with losing_the_first_answer(server) as url:
        async with AsyncOpenAI(base_url=url, api_key=client.api_key) as retrying:
            response = await retrying.responses.create(model="m", input="history")
        assert response.output_text == "[]"
        chat = response.id.removeprefix("resp_").partition(".")[0]
    async with httpx.AsyncClient() as http:
        messages = (await http.get(server.http(f"/ai/chat/{chat}/messages"))).json()["messages"]
    assert [message["id"] for message in messages] == [f"{response.id}:ask", response.id]
    again = await client.responses.create(model="m", input="history")
    assert again.id != response.id


@pytest.mark.parametrize("scenario", ["completes", "responds", "cancels"])
async def test_the_client_in_node(server: Server, node: Path, scenario: str) -> None:
    arguments = [require("node"), "openai.mjs", server.http("/openai/chat/v1"), issue(SECRET, "alice"), scenario]
    done = await asyncio.to_thread(
        subprocess.run, arguments, cwd=node, capture_output=True, text=True, timeout=seconds(30), check=False
    )
    assert done.returncode == 0, done.stderr
