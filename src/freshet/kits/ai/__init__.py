"""What models stream, as parts of a run. None of these packages is needed: the objects are looked at, not imported.

from freshet.kits.ai import openai, write

await write(run, openai.parts(stream))
"""

from collections.abc import AsyncIterable, Mapping
from typing import Any

from freshet import Run


async def write(run: Run, parts: AsyncIterable[str | Mapping[str, Any]]) -> None:
    """Write all of an asynchronous iterator: texts, or parts of the AI SDK's UI message stream."""
    async for part in parts:
        await run.write(part)
