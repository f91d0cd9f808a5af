"""Streams of the package `openai`: of chat completions, and of Responses."""

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any

from freshet.kits.ai.building import Building, Part, usage


async def parts(stream: AsyncIterable[Any]) -> AsyncIterator[Part]:
    """Of `await client.chat.completions.create(..., stream=True)`, or `client.responses.create(..., stream=True)`.

    Raises RuntimeError when the stream says that the answer failed.
    """
    building = Building()
    calls: dict[Any, str] = {}
    async for event in stream:
        read = _response if hasattr(event, "type") else _chunk
        for part in read(building, calls, event):
            yield part
    for part in (*building.end(), *building.all_called()):
        yield part


def _chunk(building: Building, calls: dict[Any, str], chunk: Any) -> Iterator[Part]:
    for choice in chunk.choices[:1]:
        delta = choice.delta
        yield from building.add("reasoning", getattr(delta, "reasoning_content", None) or "")
        yield from building.add("text", delta.content or "")
        for call in delta.tool_calls or ():
            if call.id and call.index not in calls:
                calls[call.index] = call.id
                yield from building.call(call.id, call.function.name)
            yield from building.arguments(calls.get(call.index, ""), call.function.arguments or "")
        if choice.finish_reason:
            yield from building.end()
            yield from building.all_called()
    if chunk.usage is not None:
        yield usage(input_tokens=chunk.usage.prompt_tokens, output_tokens=chunk.usage.completion_tokens)


def _response(building: Building, calls: dict[Any, str], event: Any) -> Iterator[Part]:
    match event.type:
        case "response.output_text.delta" | "response.refusal.delta":
            yield from building.add("text", event.delta)
        case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta":
            yield from building.add("reasoning", event.delta)
        case "response.output_item.added" if event.item.type == "function_call":
            calls[event.output_index] = event.item.call_id
            yield from building.call(event.item.call_id, event.item.name)
        case "response.function_call_arguments.delta":
            yield from building.arguments(calls.get(event.output_index, ""), event.delta)
        case "response.output_item.done":
            yield from building.end()
            yield from building.called(calls.get(event.output_index, ""))
        case "response.completed" | "response.incomplete" if event.response.usage is not None:
            counted = event.response.usage
            yield usage(input_tokens=counted.input_tokens, output_tokens=counted.output_tokens)
        case "response.failed":
            raise RuntimeError(event.response.error.message if event.response.error else "the answer failed")
        case "error":
            raise RuntimeError(event.message)
