"""What serves an application: our own shell, and other ASGI servers; and a client over their WebSockets."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed

from tests.contracts.transport import Ended, Link
from tests.tools.need import ROOT
from tests.tools.patience import wait_until
from tests.tools.serving import HOST, Server, free_port, serving

COMMANDS = {
    "uvicorn": ["uvicorn", "{app}", "--ws", "websockets-sansio", "--port", "{port}"],
    "hypercorn": ["hypercorn", "{app}", "--bind", "127.0.0.1:{port}"],
    "granian": ["granian", "--interface", "asgi", "--port", "{port}", "{app}"],
}
SHELLS = ("freshet", *COMMANDS)


@contextmanager
def shell(name: str, app: str, folder: Path, *more: str, answers: Callable[[], bool] | None = None) -> Iterator[Server]:
    """Serve `app`, MODULE:APP of the repository, by the server called `name`; its output goes into `folder`.

    more: arguments of another server than our own. answers: whether it listens, where that is not at its port.
    """
    if name == "freshet":
        with serving(app) as server:
            yield server
        return
    port, output = free_port(), folder / "log"
    command = [sys.executable, "-m", *(part.format(port=port, app=app) for part in COMMANDS[name]), *more]
    with output.open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    server = Server(process, HOST, port, output)
    try:
        wait_until(answers or server._answers, 20, f"{name} to listen")
        yield server
    finally:
        server.stop()


class WebSocketLink(Link):
    def __init__(self, connection: Any) -> None:
        super().__init__()
        self._connection = connection

    async def send(self, text: str) -> None:
        await self._connection.send(text)

    async def receive(self) -> str:
        try:
            return str(await self._connection.recv())
        except ConnectionClosed as end:
            raise Ended(end.rcvd.code if end.rcvd else 1006, end.rcvd.reason if end.rcvd else "") from None

    def cut(self) -> None:
        self._connection.transport.abort()
