"""NATS servers of the tests' own, each on a free loopback port with its data in a temporary folder."""

import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.tools.broker import Broker
from tests.tools.need import require
from tests.tools.patience import wait_until
from tests.tools.ports import HOST, free_port


class Nats(Broker):
    """One server with JetStream. It can be killed and come back with the data that it had written by then.

    data: where its streams are.
    """

    def __init__(self, folder: Path, *options: str, jetstream: bool = True) -> None:
        super().__init__(free_port(), folder / "log")
        self.data = folder / "data"
        self._options = [*options, *(["-js", "-sd", str(self.data)] if jetstream else [])]

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    def start(self) -> None:
        self._run([require("nats-server"), "-a", HOST, "-p", str(self.port), *self._options])

    def pause(self) -> None:
        """Returns when it stands still: its threads do not stop at once."""
        super().pause()
        assert self._process is not None
        threads = Path(f"/proc/{self._process.pid}/task")
        if threads.exists():
            wait_until(lambda: all(map(_stands_still, threads.iterdir())), 5, "the server to stand still")

    def _answers(self) -> bool:
        """Whether it introduces itself."""
        try:
            with socket.create_connection((HOST, self.port), 1) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False


def _stands_still(thread: Path) -> bool:
    """By its state in proc_pid_stat(5), which follows the name in brackets."""
    return (thread / "stat").read_text().rpartition(")")[2].split()[0] in "tT"


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
