"""The official JavaScript clients, each with its transport and encoding, in one process of Node."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.tools.need import require
from tests.tools.patience import seconds

APP = "tests.endpoints.socketio.kept_app:live"
CENTRIFUGE = [
    *(("centrifuge", transport, "json") for transport in ("websocket", "http_stream", "sse")),
    *(("centrifuge", transport, "protobuf") for transport in ("websocket", "http_stream")),
]
SOCKETIO = [("socketio", transports, "json") for transports in ("websocket", "polling", "polling+websocket")]


@asynccontextmanager
async def listening(folder: Path, clients: list[tuple[str, ...]]) -> AsyncIterator[list[list[Any]]]:
    """What each of the clients was given, as it comes."""
    got: list[list[Any]] = [[] for _ in clients]
    process = await asyncio.create_subprocess_exec(
        *(require("node"), "ledger.mjs", *(",".join(client) for client in clients)),
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdout = process.stdout

    async def read() -> None:
        async for line in stdout:
            number, data = json.loads(line)
            got[number].append(data)

    try:
        assert await asyncio.wait_for(stdout.readline(), seconds(10)) == b"ready\n"
        reading = asyncio.create_task(read())
        yield got
        process.stdin.close()
        await asyncio.wait_for(reading, seconds(5))
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
