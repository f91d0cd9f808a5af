"""Streams of the package `anthropic`."""

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any

from freshet.kits.ai.building import Building, Part, usage


async def parts(stream: AsyncIterable[Any]) -> AsyncIterator[Part]:
    """Of `await client.messages.create(..., stream=True)`, or within `async with client.messages.stream(...)`."""
    building = Building()
    calls: dict[int, str] = {}
    used: dict[str, int | None] = {}
    async for event in stream:
        if event.type == "message_start":
            used["input_tokens"] = event.message.usage.input_tokens
        elif event.type == "message_delta":
            yield usage(**used, output_tokens=event.usage.output_tokens)
        else:
            for part in _of(building, calls, event):
                yield part
    for part in (*building.end(), *building.all_called()):
        yield part


def _of(building: Building, calls: dict[int, str], event: Any) -> Iterator[Part]:
    match event.type:
        case "content_block_start" if event.content_block.type == "tool_use":
            calls[event.index] = event.content_block.id
            yield from building.call(event.content_block.id, event.content_block.name)
        case "content_block_delta":
            delta = event.delta
            match delta.type:
                case "text_delta":
                    yield from building.add("text", delta.text)
                case "thinking_delta":
                    yield from building.add("reasoning", delta.thinking)
                case "input_json_delta":
                    yield from building.arguments(calls.get(event.index, ""), delta.partial_json)
        case "content_block_stop" if event.index in calls:
            yield from building.called(calls[event.index])
        case "content_block_stop":
            yield from building.end()
