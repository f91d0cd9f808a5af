"""The receivers in other languages: each decides for a real server what its clients may do."""

import asyncio
import base64
import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.tools.need import require
from tests.tools.patience import seconds, wait_until
from tests.tools.ports import free_port
from tests.tools.serving import Server

COMMANDS = {
    "node": ["node", "receiver.mjs", "{port}"],
    "go": ["go", "run", "receiver.go", "{port}"],
    "php": ["php", "-S", "127.0.0.1:{port}", "receiver.php"],
}


@contextmanager
def receiving(language: str, folder: Path, secret: str) -> Iterator[tuple[int, Path]]:
    """The receiver's port, and the file with what it wrote."""
    require(COMMANDS[language][0])
    port, written = free_port(), folder / "receiver.log"
    command = [part.format(port=port) for part in COMMANDS[language]]
    environment = {**os.environ, "FRESHET_WEBHOOK_SECRET": secret, "GOCACHE": str(folder / "go"), "GO111MODULE": "off"}
    with written.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_until(lambda: answers(port) or process.poll() is not None, 60, f"{language}: {written.read_text()}")
        yield port, written
    finally:
        os.killpg(process.pid, 15)
        process.wait(seconds(10))


def answers(port: int) -> bool:
    try:
        return httpx.post(f"http://127.0.0.1:{port}/", content=b"{}").status_code == 401
    except httpx.HTTPError:
        return False


async def ask(client: ClientConnection, **command: dict[str, Any]) -> dict[str, Any]:
    """The reply to one command; its error is raised, as AssertionError."""
    await client.send(json.dumps({"id": 1, **command}))
    async with asyncio.timeout(seconds(10)):
        while True:
            for line in str(await client.recv()).splitlines():
                reply = json.loads(line)
                if reply.get("id") == 1:
                    assert "error" not in reply, reply["error"]
                    return dict(reply[next(iter(command))])


@pytest.mark.parametrize("language", COMMANDS)
async def test_a_receiver_decides_who_may_do_what(
    serve: Callable[..., Server], example: Callable[[str], Path], language: str
) -> None:
    folder = example("webhooks")
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    with receiving(language, folder, secret) as (port, written):
        there = {"FRESHET_WEBHOOK_SECRET": secret, "FRESHET_WEBHOOKS__URL": f"http://127.0.0.1:{port}/"}
        server = serve("--config", "freshet.toml", cwd=folder, env=there)
        url = server.ws("/connection/websocket")
        async with connect(url) as stranger:
            await stranger.send('{"id":1,"connect":{}}')
            await stranger.wait_closed()
            assert (stranger.close_code, stranger.close_reason) == (4501, "who are you?")
        async with connect(url, additional_headers={"Authorization": "Bearer let-me-in"}) as alice:
            await ask(alice, connect={})
            assert (await ask(alice, rpc={"method": "double", "data": 21}))["data"] == 42
            with pytest.raises(AssertionError, match="no such method"):
                await ask(alice, rpc={"method": "halve"})
            with pytest.raises(AssertionError, match="alice may not"):
                await ask(alice, subscribe={"channel": "room:secret"})
            position = await ask(alice, subscribe={"channel": "room:tea"})
            await ask(alice, publish={"channel": "room:tea", "data": {"text": "hello"}})
            page = await ask(alice, history={"channel": "room:tea", "limit": 1})
            assert page["publications"][0]["data"] == {"text": "hello", "from": "alice"}
            assert position["recoverable"]
        for event in ("channel.occupied", "channel.vacated", "client.disconnect"):
            wait_until(lambda event=event: event in written.read_text(), 10, f"{event} at the receiver")
