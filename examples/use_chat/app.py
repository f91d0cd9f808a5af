"""A chat on a page with the AI SDK's `useChat`, whose answers live on the server. See README.md."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from freshet import Freshet, Run

live = Freshet.from_config("freshet.toml")
api = FastAPI(lifespan=live.lifespan)


async def model(messages: list[dict[str, Any]]) -> AsyncIterator[str]:
    """In place of a language model, which gets the same messages: it counts, slowly enough to reload meanwhile."""
    yield f"You asked: {messages[-1]['text']} Let me count to sixty before I answer. "
    for number in range(60):
        yield f"{number + 1} "
        await asyncio.sleep(0.1)


@live.run("chat:{chat}")
async def answer(run: Run, message: dict[str, Any], chat: str) -> None:
    async for piece in model([*await run.history(), message]):
        await run.write(piece)


api.mount("/live", live)
api.mount("/", StaticFiles(directory=Path(__file__).with_name("dist"), html=True))
