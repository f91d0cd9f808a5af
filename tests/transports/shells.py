"""What serves an application: our own shell, and other ASGI servers; and a client over their WebSockets."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed

from tests.contracts.transport import Ended, Link
from tests.tools.need import ROOT
from tests.tools.patience import wait_until
from tests.tools.serving import HOST, Server, free_port, serving

COMMANDS = {
    "uvicorn": "uvicorn {app} --ws websockets-sansio --port {port}",
    "uvicorn, two workers": "uvicorn {app} --port {port} --workers 2",
    "gunicorn": "gunicorn {app} --worker-class uvicorn_worker.UvicornWorker --bind 127.0.0.1:{port} --workers 2",
    "hypercorn": "hypercorn {app} --bind 127.0.0.1:{port}",
    "hypercorn, no workers": "hypercorn {app} --bind 127.0.0.1:{port} --workers 0",
    "granian": "granian {app} --interface asgi --port {port}",
    "daphne": "daphne {app} --port {port}",
}
SHELLS = ("freshet", "uvicorn", "hypercorn", "granian")  # those on which every contract of transports runs


@contextmanager
def shell(
    name: str,
    app: str,
    folder: Path,
    *more: str,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
    answers: Callable[[], bool] | None = None,
) -> Iterator[Server]:
    """Serve `app`, MODULE:APP of the repository, by the server called `name`; its output goes into `folder`.

    more: its arguments. port: the port to take, for a server that comes back. env: added to the environment. answers:
    whether it listens, where that is not at its port.
    """
    if name == "freshet":
        with serving(app, *more, port=port, env=env) as server:
            yield server
        return
    port, output = port or free_port(), folder / "log"
    command = [sys.executable, "-m", *COMMANDS[name].format(port=port, app=app).split(), *more]
    with output.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **(env or {})}, start_new_session=True
        )
    server = Server(process, HOST, port, output)
    try:
        wait_until(answers or server._answers, 20, f"{name} to listen")
        yield server
    finally:
        server.stop()
        with suppress(ProcessLookupError):  # workers that it left behind
            os.killpg(process.pid, signal.SIGKILL)


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
