"""A chat whose answers live on the server, in front of any server that speaks as OpenAI's does."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
from fastapi import FastAPI
from fastapi.responses import FileResponse

from freshet import Config, Freshet, Run
from freshet.config import Tokens

live = Freshet(secret=os.environ["FRESHET_SECRET"], config=Config(tokens=Tokens(anonymous=True)))
api = FastAPI(lifespan=live.lifespan)


async def model(messages: list[dict[str, str]]) -> AsyncIterator[str]:
    """The real one if there is a key, otherwise words of its own."""
    if "OPENAI_API_KEY" not in os.environ:
        for word in f"No key is set, so this is no model. You said: {messages[-1]['content']}".split():
            yield f"{word} "
        return
    url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    body = {"model": os.environ.get("OPENAI_MODEL", "gpt-5-mini"), "messages": messages, "stream": True}
    async with (
        httpx.AsyncClient(timeout=60) as http,
        http.stream("POST", f"{url}/chat/completions", json=body, headers=headers) as answer,
    ):
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                for choice in msgspec.json.decode(line[6:])["choices"]:
                    yield choice["delta"].get("content") or ""


@live.run("chat:{chat}")
async def answer(run: Run, message: dict[str, Any], chat: str) -> None:
    said = [
        {"role": it["role"], "content": "".join(part.get("text", "") for part in it["parts"])}
        for it in await run.history()
    ]
    async for piece in model([*said, {"role": "user", "content": message["text"]}]):
        await run.write(piece)


@api.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("index.html"))


api.mount("/live", live)
