"""Freshet as a process of its own: `with serving("--dev") as server:`."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from freshet.config.limits import RATES
from tests.tools.need import ROOT
from tests.tools.patience import seconds, wait_until
from tests.tools.ports import HOST, free_port

# For a configuration file: clients that publish as fast as they can are what the test is about.
UNLIMITED = "\n[rates]\n" + "".join(f"{name} = {{ rate = 0, burst = 0 }}\n" for name in RATES)

SCALED = "FRESHET_TEST_SCALE"  # by which applications of the tests have their times, too: `patience.seconds`
START = 40  # seconds, scaled
GRACE = 10  # seconds, scaled: from SIGTERM to SIGKILL


class Server:
    """A running server: where it is, what it has written, and how to end it. secure: it speaks TLS."""

    def __init__(
        self, process: subprocess.Popen[bytes], host: str, port: int, output: Path, *, secure: bool = False
    ) -> None:
        self.process = process
        self.secure = secure
        self.host = host
        self.port = port
        self._output = output

    @property
    def pid(self) -> int:
        return self.process.pid

    def http(self, path: str = "/") -> str:
        return f"http{'s' if self.secure else ''}://{self.host}:{self.port}{path}"

    def ws(self, path: str = "/") -> str:
        return f"ws{'s' if self.secure else ''}://{self.host}:{self.port}{path}"

    def log(self) -> str:
        """All that it has written so far, to either stream."""
        return self._output.read_text(errors="replace")

    def wait_for_log(self, text: str, within: float = 5) -> None:
        wait_until(lambda: text in self.log(), within, f"{text!r} in the server's log")

    def stop(self) -> int:
        """Ask it to end (SIGTERM), insist after a grace; gives its exit code. Only this process, by its id."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.ended()

    def kill(self) -> int:
        """End it at once, as a crash would (SIGKILL)."""
        if self.process.poll() is None:
            self.process.kill()
        return self.ended()

    def ended(self) -> int:
        """Wait for its end; gives its exit code, negative for a signal."""
        try:
            return self.process.wait(seconds(GRACE))
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _answers(self) -> bool:
        code = self.process.poll()
        if code is not None:
            raise RuntimeError(f"the server ended with {code} before it listened:\n{self.log()}")
        try:
            socket.create_connection((self.host, self.port), seconds(1)).close()
        except OSError:
            return False
        return True


@contextmanager
def serving(
    *arguments: str,
    command: str = "serve",
    host: str = HOST,
    port: int | None = None,
    prefix: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Server]:
    """Run `freshet serve ARGUMENTS` on a free loopback port of `host` until the block ends; all its workers listen.

    command: another word of the command line that listens, such as `demo`.
    port: the port to take, for a server that comes back where one was.
    prefix: a command that runs it.
    env: added to the environment, from which the FRESHET_ variables of the caller are left out, but that of the scale.
    cwd: where it runs, and where `MODULE:APP` is looked for.

    Raises RuntimeError with its output when it ends before it listens.
    """
    port = port or free_port()
    clean = {name: value for name, value in os.environ.items() if name == SCALED or not name.startswith("FRESHET_")}
    where = ["--host", host] if command == "serve" else []  # the demo is for one's own machine
    with tempfile.TemporaryDirectory(prefix="freshet-") as folder:
        output = Path(folder, "output.log")
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "freshet", command, *arguments, *where, "--port", str(port)],
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=cwd or ROOT,
                env={**clean, "PYTHONUNBUFFERED": "1", "XDG_STATE_HOME": folder, **(env or {})},
            )
        server = Server(process, host, port, output, secure="--tls-cert" in arguments)
        try:
            wait_until(server._answers, START, f"port {port} to answer")
            workers = int(arguments[arguments.index("--workers") + 1]) if "--workers" in arguments else 1
            wait_until(lambda: _listening(process.pid, port) >= workers, START, "all workers to listen")
            yield server
        finally:
            server.stop()


def _listening(process: int, port: int) -> int:
    """How many sockets, where the process is, which may be in a namespace: each worker has one of its own."""
    tables = [Path(f"/proc/{process}/net/{name}").read_text() for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def workers_of(parent: int) -> list[int]:
    """The processes of a server's workers. parent: its own."""
    return [child for child in _children(parent) if "freshet.serving.hub" not in _command(child)]


def listens(process: int) -> bool:
    """Whether it takes clients: a worker that has just been started does not yet, for however long."""
    listening = {line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if " 0A " in line}
    try:
        opened = [str(each.readlink()) for each in Path(f"/proc/{process}/fd").iterdir()]
    except OSError:  # it has just ended, or closed one
        return False
    return any(each.removeprefix("socket:[").rstrip("]") in listening for each in opened)


def hubs_of(parent: int) -> list[int]:
    """The processes of a server's hubs, without the first, which is its own."""
    return [child for child in _children(parent) if "freshet.serving.hub" in _command(child)]


def _children(parent: int) -> list[int]:
    return list(map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()))


def _command(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().split("\0")
    except OSError:  # it has just ended
        return []
