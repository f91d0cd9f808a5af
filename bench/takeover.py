"""How long a room is away when its owner is killed: two servers on one Redis, and one SQLite file."""

import json
import os
import signal
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from bench.engines import broker
from bench.process import Process, free_port, served
from freshet import Freshet, HttpRequest, Room


class Owned(Room):
    """Counts, and says which process has it."""

    async def on_request(self, request: HttpRequest) -> Any:
        value = await self.store.get("value", 0) + 1
        await self.store.put("value", value)
        return {"pid": os.getpid(), "value": value}


def application() -> Freshet:
    live = Freshet.from_config()
    live.room("owned:{name}")(Owned)
    return live


def ask(port: int, room: str, timeout: float = 30.0) -> dict[str, Any]:
    """Raises OSError, also when the server answers that it cannot."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/rooms/{room}", timeout=timeout) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def serve(stack: ExitStack, folder: Path, engine: str) -> Process:
    port = free_port()
    env = {
        "FRESHET_ENGINE": engine,
        "FRESHET_ROOMS__STORE": f"sqlite:///{folder}/rooms.db",
        "FRESHET_TOKENS__ANONYMOUS": "true",
    }
    command = [sys.executable, "-m", "freshet", "serve", "bench.takeover:live", "--port", str(port)]
    return stack.enter_context(served(command, port, env=env))


def away(folder: Path) -> float:
    """Seconds from the kill of a room's owner to the first answer of the other node."""
    with ExitStack() as stack:
        _, engine = broker(stack, "redis", folder)
        first, second = serve(stack, folder, engine), serve(stack, folder, engine)
        owner = ask(first.port, "owned:1")
        ask(second.port, "owned:1")
        os.kill(owner["pid"], signal.SIGKILL)
        began = time.monotonic()
        while True:
            try:
                found = ask(second.port, "owned:1")
            except OSError:
                time.sleep(0.02)
                continue
            if found["pid"] == owner["pid"] or found["value"] < owner["value"] + 2:
                raise RuntimeError(f"{found} after {owner}")
            return time.monotonic() - began


def report(folder: Path, rounds: int) -> str:
    times = []
    for number in range(rounds):
        (folder / str(number)).mkdir()
        times.append(away(folder / str(number)))
    return (
        f"The owner of a room killed (`kill -9`), two nodes on one Redis, the default lease of 4 s: away for "
        f"{median(times):.1f} s (median of {rounds}; {min(times):.1f} to {max(times):.1f})."
    )


if "serve" in sys.argv:
    live = application()
