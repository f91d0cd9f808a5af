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
    """count N MS, wait, think, ask N, work, fail, history."""
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
            for number in range(int(numbers[0]) if numbers else 1):
                await run.ask(await run.tool("delete", {"file": f"{number}.txt"}, id=f"call-{number}-{run.id}"))
        case "work":
            await work(run)
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


async def work(run: Run) -> None:
    """Tools side by side, whose arguments stream in and whose results come late; and data that is replaced."""
    for call in ("a", "b"):
        await run.write({"type": "tool-input-start", "toolCallId": call, "toolName": "look"})
        for piece in ('{ "at"', f': "{call}" }}'):
            await run.write({"type": "tool-input-delta", "toolCallId": call, "inputTextDelta": piece})
    await run.data("progress", 1, id="p")
    for call in ("a", "b"):
        about = {"toolCallId": call, "toolName": "look", "input": {"at": call}}
        await run.write({"type": "tool-input-available", **about})
    await run.write("Two tools work. ")
    await run.data("progress", 2, id="p")
    await run.data("noise", 1, transient=True)
    await run.write({"type": "tool-output-available", "toolCallId": "b", "output": "half", "preliminary": True})
    await run.result("b", "b is done")
    await run.flush()
    await run.write("The second is done. ")
    await run.result("a", error="a is broken")
    await run.reasoning("So much for that.")
    await run.write("That is all.")


@answer.on_approval
async def go_on(run: Run, message: dict[str, Any], chat: str) -> None:
    asked = [part for part in run.message["parts"] if "approval" in part]
    for part in asked:
        if part["approval"]["approved"]:
            await run.result(part["toolCallId"], "deleted")
    await run.write("done" if any(part["approval"]["approved"] for part in asked) else "I leave it.")
