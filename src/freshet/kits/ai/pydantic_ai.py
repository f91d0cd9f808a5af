"""Streams of the package `pydantic-ai`: what an agent does, its tools too."""

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any

import msgspec

from freshet.kits.ai.building import Building, Part, plain, usage


async def parts(stream: AsyncIterable[Any]) -> AsyncIterator[Part]:
    """Of the events within `async with agent.run_stream_events(...) as stream:`."""
    building = Building()
    calls: dict[int, str] = {}
    async for event in stream:
        for part in _of(building, calls, event):
            yield part
    for part in (*building.end(), *building.all_called()):
        yield part


def _of(building: Building, calls: dict[int, str], event: Any) -> Iterator[Part]:
    match event.event_kind:
        case "part_start":
            yield from _begun(building, calls, event.index, event.part)
        case "part_delta":
            yield from _more(building, calls, event.index, event.delta)
        case "part_end":
            yield from building.end()
        case "function_tool_call" | "output_tool_call":
            yield from building.called(event.part.tool_call_id)
        case "function_tool_result" | "output_tool_result":
            result = event.part
            if result.part_kind == "retry-prompt":
                yield from building.failed(result.tool_call_id, str(result.content))
            else:
                yield from building.output(result.tool_call_id, result.content)
        case "agent_run_result":
            counted = event.result.usage
            yield usage(input_tokens=counted.input_tokens, output_tokens=counted.output_tokens)


def _begun(building: Building, calls: dict[int, str], index: int, part: Any) -> Iterator[Part]:
    match part.part_kind:
        case "text":
            yield from building.add("text", part.content)
        case "thinking":
            yield from building.add("reasoning", part.content)
        case "tool-call":
            calls[index] = part.tool_call_id
            yield from building.call(part.tool_call_id, part.tool_name)
            yield from building.arguments(part.tool_call_id, _json(part.args))


def _more(building: Building, calls: dict[int, str], index: int, delta: Any) -> Iterator[Part]:
    match delta.part_delta_kind:
        case "text":
            yield from building.add("text", delta.content_delta)
        case "thinking":
            yield from building.add("reasoning", delta.content_delta or "")
        case "tool_call":
            yield from building.arguments(calls.get(index, ""), _json(delta.args_delta))


def _json(arguments: Any) -> str:
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return msgspec.json.encode(plain(arguments)).decode()
