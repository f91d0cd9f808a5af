"""A chat without a model: what a message says is what its run does."""

import asyncio
import os
from typing import Any

import msgspec

from freshet import Config, Freshet, Run
from freshet.config import Runs, Tokens, load

SECRET = "a secret for tests, thirty-two bytes"


def configured() -> Config:
    """As the environment says, and so that a test waits for nothing for long."""
    config = load(None, os.environ)
    tokens = Tokens(secret=SECRET, anonymous=True)
    runs = Runs(lease=float(os.environ.get("CHAT_LEASE", "1")), drain=1.0)
    return msgspec.structs.replace(config, tokens=tokens, runs=runs, origins=["*"])


live = Freshet(config=configured())
live.namespace("/kept", recovery=60)


@live.run("chat:{chat}")
async def answer(run: Run, message: dict[str, Any], chat: str) -> None:
    """count N MS, wait, think, ask, fail, history."""
    what, *numbers = str(message["text"]).split()
    match what:
        case "count":
            for number in range(int(numbers[0])):
                await run.write(f"{number} ")
                await asyncio.sleep(int(numbers[1]) / 1000)
        case "wait":
            await run.write("0 1 2 ")
            await asyncio.Event().wait()
        case "think":
            await think(run)
        case "ask":
            await run.write("May I? ")
            await run.ask(await run.tool("delete", {"file": "a.txt"}, id=f"call-{run.id}"))
        case "history":
            said = [part["text"] for it in await run.history() for part in it["parts"] if part["type"] == "text"]
            await run.write(repr(said))
        case _:
            await run.write("about to ")
            raise RuntimeError("the model broke")


async def think(run: Run) -> None:
    await run.reasoning("Let me see. ")
    await run.reasoning("A tool.")
    await run.write({"type": "tool-input-start", "toolCallId": f"t-{run.id}", "toolName": "weather"})
    for piece in ('{"city":', ' "Oslo"}'):
        await run.write({"type": "tool-input-delta", "toolCallId": f"t-{run.id}", "inputTextDelta": piece})
        await run.flush()
    about = {"toolCallId": f"t-{run.id}", "toolName": "weather", "input": {"city": "Oslo"}}
    await run.write({"type": "tool-input-available", **about})
    await run.result(f"t-{run.id}", {"degrees": -3})
    await run.source("https://example.org/oslo", title="Oslo")
    await run.data("chart", {"points": [1, 2]}, id="chart")
    await run.write("It is cold.")
    await run.usage(input_tokens=7, output_tokens=3)


@answer.on_approval
async def go_on(run: Run, message: dict[str, Any], chat: str) -> None:
    assert run.approval is not None
    if run.approval.approved:
        await run.result(run.approval.tool, "deleted")
    await run.write("done" if run.approval.approved else "I leave it.")
