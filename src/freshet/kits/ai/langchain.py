"""Event streams of LangChain and LangGraph."""

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any

import msgspec

from freshet.kits.ai.building import Building, Part, plain


async def parts(stream: AsyncIterable[Any]) -> AsyncIterator[Part]:
    """Of `runnable.astream_events(...)`, version 2: what models write, and the tools that are run."""
    building = Building()
    async for event in stream:
        for part in _of(building, event):
            yield part
    for part in (*building.end(), *building.all_called()):
        yield part


def _of(building: Building, event: Any) -> Iterator[Part]:
    data, run = event["data"], event["run_id"]
    match event["event"]:
        case "on_chat_model_stream":
            yield from _content(building, data["chunk"].content)
        case "on_chat_model_end" | "on_llm_end":
            yield from building.end()
        case "on_llm_stream":
            yield from building.add("text", getattr(data["chunk"], "text", None) or str(data["chunk"]))
        case "on_tool_start":
            yield from building.call(run, event["name"])
            yield from building.arguments(run, msgspec.json.encode(plain(data.get("input") or {})).decode())
            yield from building.called(run)
        case "on_tool_end":
            output = data.get("output")
            yield from building.output(run, getattr(output, "content", output))
        case "on_tool_error":
            yield from building.failed(run, str(data.get("error")))


def _content(building: Building, content: Any) -> Iterator[Part]:
    """A text, or blocks of which some are texts and some what the model thinks."""
    if isinstance(content, str):
        yield from building.add("text", content)
        return
    for block in content:
        if isinstance(block, str):
            yield from building.add("text", block)
        elif block.get("type") == "text":
            yield from building.add("text", block.get("text", ""))
        elif block.get("type") in ("thinking", "reasoning"):
            yield from building.add("reasoning", block.get("thinking") or block.get("reasoning") or "")
