"""What answers in the demo of runs: a real model if there is a key for one, else a stand-in that says so.

It runs as a process of its own, see `worker`: `[history, text, behind]` comes in, pieces go out, a line of JSON each.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

REAL = bool(os.environ.get("OPENAI_API_KEY")) and find_spec("openai") is not None
NAME = os.environ.get("OPENAI_MODEL", "gpt-4o-mini") if REAL else "stand-in, no model"
PAUSE = 0.03  # seconds between two pieces of the stand-in, as long as those of a model

RUNS = """## A run belongs to the server

You may **reload this page now**, in the middle of this answer. Nothing is lost, because the task that writes it is not
your request: it is a *run*, and every window that shows this talk only watches it.

```python
@live.run("talk:{talk}")
async def answer(run: Run, message: Ask, talk: str):
    async for text in model.stream(message.text):
        await run.write(text)       # coalesced, and in the log
```

Whoever comes late gets one summary of all that was, and then the same pieces as everybody else:

1. The page subscribes to `talk:…`.
2. It gets the messages so far, with the half of this one that was written.
3. From there on it gets what is written, in order, without a gap and without a repeat.

| you | the run |
|---|---|
| reload, or close the tab | goes on |
| press **Stop**, in any window | is cancelled, what it wrote is kept |
| edit a question | begins a branch beside the old one |

> Closing a tab stops nothing. Only *Stop* stops, on whatever server the run is.
"""

SHORT = """I am a **stand-in**: I know three answers by heart, and none of them is intelligent. What I am for is the way
that words take from the server to you.

Try one of these:

- `Explain runs`: a long answer with code. Reload in the middle of it, or open a second window.
- `Book a table`: I ask before I act, and wait for your decision as long as it takes.
- Edit what you asked: the old answer stays, one step aside.
"""


def wants_tool(text: str) -> bool:
    return re.search(r"\b(book|order|reserve)\b", text, re.IGNORECASE) is not None


async def reply(history: list[dict[str, Any]], text: str, behind: str = "") -> AsyncIterator[str]:
    """The answer, piece by piece. behind: what was written of it before."""
    if REAL:
        async for piece in _asked(history, text):
            yield piece
        return
    written = RUNS if re.search(r"\b(run|runs|explain|long|code|reload)\b", text, re.IGNORECASE) else SHORT
    for piece in re.findall(r"\S+\s*", written.removeprefix(behind)):
        yield piece
        await asyncio.sleep(PAUSE)


async def _asked(history: list[dict[str, Any]], text: str) -> AsyncIterator[str]:
    client = import_module("openai").AsyncOpenAI()
    before = [{"role": each["role"], "content": _text(each)} for each in history]
    stream = await client.chat.completions.create(
        model=NAME, stream=True, messages=[*before, {"role": "user", "content": text}]
    )
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content


def _text(message: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for part in message["parts"] if part["type"] == "text")


async def _main() -> None:
    async for piece in reply(*json.load(sys.stdin)):
        sys.stdout.write(f"{json.dumps(piece)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    try:
        asyncio.run(_main())
    except BrokenPipeError:  # nobody reads it any more
        os._exit(1)
