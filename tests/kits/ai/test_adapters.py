"""What models stream becomes parts that a run takes: the real packages, and stand-ins for what is behind them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import httpx2
import openai
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from pydantic_ai import Agent
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from freshet.kits.ai import anthropic as of_anthropic
from freshet.kits.ai import langchain as of_langchain
from freshet.kits.ai import openai as of_openai
from freshet.kits.ai import pydantic_ai as of_pydantic_ai
from freshet.kits.ai import write
from freshet.model.run_aggregate import Aggregate

Part = dict[str, Any]


def events(*lines: tuple[str, Any] | Any) -> bytes:
    """An event stream: data, or names and data."""
    out = []
    for line in lines:
        name, data = line if isinstance(line, tuple) else ("", line)
        head = f"event: {name}\n" if name else ""
        out.append(f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n")
    return "".join(out).encode()


def answering(body: bytes, package: Any = httpx) -> Any:
    """A client of HTTP with a server behind it that always answers so, in small pieces. package: the client's."""

    async def answer(request: Request) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(body), 50):
                yield body[at : at + 50]

        return StreamingResponse(pieces(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["POST"])])
    return package.AsyncClient(transport=package.ASGITransport(app))


class Taker:
    """A run as far as `write` uses it: the parts have to be ones that a run takes."""

    def __init__(self) -> None:
        self.aggregate = Aggregate()
        self.plain = ""

    async def write(self, part: str | Part) -> None:
        if isinstance(part, str):
            self.plain += part
        else:
            self.aggregate.apply(part)


async def taken(parts: AsyncIterator[Any]) -> Taker:
    taker = Taker()
    await write(taker, parts)  # type: ignore[arg-type]
    return taker


def seen(taker: Taker) -> list[tuple[str, Any]]:
    """What the message has, in order: texts, and of tools the input and the output."""
    found: list[tuple[str, Any]] = []
    for part in taker.aggregate.parts:
        if "text" in part:
            found.append((part["type"], part["text"]))
            assert part.get("state") != "streaming"
        else:
            found.append((part["type"], (part.get("input"), part.get("output"))))
    return found


async def test_any_asynchronous_iterator_of_texts_is_written_as_it_is() -> None:
    async def texts() -> AsyncIterator[str]:
        yield "Hello, "
        yield "wörld"

    assert (await taken(texts())).plain == "Hello, wörld"


def chunk(delta: Part, finish: str | None = None, **more: Any) -> Part:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
    return {**base, **more}


async def test_a_completion_of_openai_with_reasoning_text_and_a_tool() -> None:
    function = {"name": "find", "arguments": ""}
    call = [{"index": 0, "id": "call-1", "type": "function", "function": function}]
    rest = [{"index": 0, "function": {"arguments": part}} for part in ('{"a', '": 1}')]
    body = events(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "Hm"}),
        chunk({"content": "Look"}),
        chunk({"content": "ing"}),
        chunk({"tool_calls": call}),
        chunk({"tool_calls": rest[:1]}),
        chunk({"tool_calls": rest[1:]}),
        chunk({}, "tool_calls"),
        chunk({}, usage={"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}, choices=[]),
        "[DONE]",
    )
    client = openai.AsyncOpenAI(api_key="k", base_url="http://model/v1", http_client=answering(body))
    stream = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}], stream=True)
    taker = await taken(of_openai.parts(stream))
    assert seen(taker) == [("reasoning", "Hm"), ("text", "Looking"), ("tool-find", ({"a": 1}, None))]
    assert taker.aggregate.metadata["usage"] == {"input_tokens": 3, "output_tokens": 5}


async def test_a_response_of_openai() -> None:
    item = {"type": "function_call", "id": "i", "call_id": "call-1", "name": "find", "arguments": ""}
    counted = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
    lines = [
        {"type": "response.output_text.delta", "delta": "Hel", "output_index": 0, "content_index": 0, "item_id": "m"},
        {"type": "response.output_text.delta", "delta": "lo", "output_index": 0, "content_index": 0, "item_id": "m"},
        {"type": "response.output_item.added", "item": item, "output_index": 1},
        {"type": "response.function_call_arguments.delta", "delta": '{"a":1}', "item_id": "i", "output_index": 1},
        {"type": "response.output_item.done", "item": item, "output_index": 1},
        {"type": "response.completed", "response": {"id": "r", "usage": counted}},
    ]
    body = events(*((line["type"], {**line, "sequence_number": at}) for at, line in enumerate(lines)))
    client = openai.AsyncOpenAI(api_key="k", base_url="http://model/v1", http_client=answering(body))
    taker = await taken(of_openai.parts(await client.responses.create(model="m", input="?", stream=True)))
    assert seen(taker) == [("text", "Hello"), ("tool-find", ({"a": 1}, None))]
    assert taker.aggregate.metadata["usage"] == {"input_tokens": 3, "output_tokens": 5}


async def test_a_message_of_anthropic() -> None:
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m"}
    use = {"type": "tool_use", "id": "call-1", "name": "find", "input": {}}
    lines: list[Part] = [
        {"type": "message_start", "message": {**message, "usage": {"input_tokens": 3, "output_tokens": 0}}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "content_block_start", "index": 2, "content_block": use},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'}},
        {"type": "content_block_stop", "index": 2},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    body = events(*((line["type"], line) for line in lines))
    client = anthropic.AsyncAnthropic(api_key="k", base_url="http://model", http_client=answering(body, httpx2))
    stream = await client.messages.create(
        model="m", max_tokens=9, messages=[{"role": "user", "content": "?"}], stream=True
    )
    taker = await taken(of_anthropic.parts(stream))
    assert seen(taker) == [("reasoning", "Hm"), ("text", "Hello"), ("tool-find", ({"a": 1}, None))]
    assert taker.aggregate.metadata["usage"] == {"input_tokens": 3, "output_tokens": 5}


async def test_an_agent_of_pydantic_ai_that_calls_a_tool() -> None:
    async def model(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
        if len(messages) == 1:
            yield {0: DeltaThinkingPart(content="Hm")}
            yield {1: DeltaToolCall(name="double", json_args='{"n"', tool_call_id="call-1")}
            yield {1: DeltaToolCall(json_args=": 4}")}
        else:
            yield "It is "
            yield "8"

    agent = Agent(FunctionModel(stream_function=model))

    @agent.tool_plain
    def double(n: int) -> int:
        return 2 * n

    async with agent.run_stream_events("?") as stream:
        taker = await taken(of_pydantic_ai.parts(stream))
    assert seen(taker) == [("reasoning", "Hm"), ("tool-double", ({"n": 4}, 8)), ("text", "It is 8")]
    assert taker.aggregate.metadata["usage"]["output_tokens"] > 0


async def test_events_of_langchain() -> None:
    @tool
    def double(n: int) -> int:
        """Twice as much."""
        return 2 * n

    model = GenericFakeChatModel(messages=iter([AIMessage("It is 8, of course")]))

    async def chain(number: int) -> Any:
        await double.ainvoke({"n": number})
        return await model.ainvoke("?")

    stream = RunnableLambda(chain).astream_events(4, version="v2")
    taker = await taken(of_langchain.parts(stream))
    assert seen(taker) == [("tool-double", ({"n": 4}, 8)), ("text", "It is 8, of course")]


async def test_arguments_that_are_no_json_are_an_error_of_the_tool() -> None:
    function = {"name": "find", "arguments": '{"a'}
    call = [{"index": 0, "id": "call-1", "type": "function", "function": function}]
    body = events(chunk({"tool_calls": call}), chunk({}, "length"), "[DONE]")
    client = openai.AsyncOpenAI(api_key="k", base_url="http://model/v1", http_client=answering(body))
    stream = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}], stream=True)
    taker = await taken(of_openai.parts(stream))
    assert "not JSON" in taker.aggregate.parts[0]["errorText"]
