"""NATS servers of the tests' own, each on a free loopback port with its data in a temporary folder."""

import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.tools.need import require
from tests.tools.patience import seconds, wait_until
from tests.tools.serving import HOST, free_port

START = 10  # seconds, scaled


class Nats:
    """One server with JetStream. It can be killed and come back with the data that it had written by then.

    data: where its streams are.
    """

    def __init__(self, folder: Path, *options: str, jetstream: bool = True) -> None:
        self.port = free_port()
        self.data = folder / "data"
        self._folder = folder
        self._options = [*options, *(["-js", "-sd", str(self.data)] if jetstream else [])]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    def start(self) -> None:
        """Run, and wait until it introduces itself."""
        command = [require("nats-server"), "-a", HOST, "-p", str(self.port), *self._options]
        with (self._folder / "log").open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        wait_until(self._introduces_itself, START, f"NATS on port {self.port}")

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _introduces_itself(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError((self._folder / "log").read_text(errors="replace"))
        try:
            with socket.create_connection((HOST, self.port), 1) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(how)
        try:
            self._process.wait(seconds(START))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def cluster(number: int = 3) -> Iterator[list[Nats]]:
    """The servers of a cluster that know each other."""
    with tempfile.TemporaryDirectory(prefix="freshet-nats-") as folder, ExitStack() as stack:
        routes = [free_port() for _ in range(number)]
        servers = []
        for index, port in enumerate(routes):
            own = Path(folder, str(port))
            own.mkdir()
            others = ",".join(f"nats://{HOST}:{route}" for route in routes)
            place = f"nats://{HOST}:{port}"
            options = ["--name", f"n{index}", "--cluster_name", "tests", "--cluster", place, "--routes", others]
            server = Nats(own, *options)
            server.start()
            stack.callback(server.stop)
            servers.append(server)
        yield servers


@contextmanager
def nats(*options: str, jetstream: bool = True) -> Iterator[Nats]:
    """A server with these options until the block ends."""
    with tempfile.TemporaryDirectory(prefix="freshet-nats-") as folder:
        server = Nats(Path(folder), *options, jetstream=jetstream)
        server.start()
        try:
            yield server
        finally:
            server.stop()
