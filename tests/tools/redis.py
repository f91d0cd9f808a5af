"""Redis servers of the tests' own, each on a free loopback port with its data in a temporary folder."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.tools.broker import START, Broker
from tests.tools.need import require
from tests.tools.patience import seconds, wait_until
from tests.tools.serving import HOST, free_port


class Redis(Broker):
    """One server. It can be killed and come back with the data that it had written by then."""

    def __init__(self, folder: Path, *options: str, port: int | None = None, sentinel: str = "") -> None:
        port = port or free_port()
        super().__init__(port, folder / f"{port}.log")
        self._folder = folder
        self._options = options
        self._sentinel = sentinel  # the text of its configuration file

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def start(self) -> None:
        command = [require("redis-server")]
        if self._sentinel:
            file = self._folder / f"sentinel-{self.port}.conf"
            file.write_text(self._sentinel)
            command += [str(file), "--sentinel"]
        else:
            command += ["--save", "", "--dbfilename", f"{self.port}.rdb", "--appendfilename", f"aof-{self.port}"]
        command += ["--port", str(self.port), "--bind", HOST, "--dir", str(self._folder), *self._options]
        self._run(command)

    def cli(self, *command: str, stdin: bytes | None = None) -> str:
        """What `redis-cli` says. stdin: the last argument, with `-x`. Raises RuntimeError for an error."""
        done = subprocess.run(
            [require("redis-cli"), "-e", "-h", HOST, "-p", str(self.port), *command],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=seconds(START),
        )
        if done.returncode:
            raise RuntimeError((done.stderr or done.stdout).decode(errors="replace"))
        return done.stdout.decode(errors="replace").strip()

    def _answers(self) -> bool:
        try:
            return self.cli("PING") == "PONG"
        except RuntimeError as error:
            return str(error).startswith("NOAUTH")


@contextmanager
def redis(*options: str) -> Iterator[Redis]:
    """A server with these options, such as `--appendonly yes`, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="freshet-redis-") as folder:
        server = Redis(Path(folder), *options)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def cluster(masters: int = 3, replicas: int = 0) -> Iterator[list[Redis]]:
    """The servers of a cluster that is ready."""
    with tempfile.TemporaryDirectory(prefix="freshet-redis-") as folder, ExitStack() as stack:
        servers = []
        for _ in range(masters * (1 + replicas)):
            port = free_port()
            own = Path(folder, str(port))
            own.mkdir()
            options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
            options += ["--cluster-port", str(free_port()), "--repl-diskless-sync-delay", "0"]
            server = Redis(own, *options, port=port)
            server.start()
            stack.callback(server.stop)
            servers.append(server)
        places = [f"{HOST}:{server.port}" for server in servers]
        servers[0].cli("--cluster", "create", *places, "--cluster-replicas", str(replicas), "--cluster-yes")
        for server in servers:
            wait_until(lambda one=server: "cluster_state:ok" in one.cli("CLUSTER", "INFO"), START, "the cluster")
        yield servers


@contextmanager
def sentinels() -> Iterator[tuple[list[Redis], list[Redis]]]:
    """A master and a replica, and three Sentinels that know the master as `live`."""
    with tempfile.TemporaryDirectory(prefix="freshet-redis-") as folder, ExitStack() as stack:
        here = Path(folder)

        def run(server: Redis) -> Redis:
            server.start()
            stack.callback(server.stop)
            return server

        master = run(Redis(here, "--repl-diskless-sync-delay", "0"))
        replica = run(Redis(here, "--replicaof", HOST, str(master.port), "--repl-diskless-sync-delay", "0"))
        wait_until(lambda: "master_link_status:up" in replica.cli("INFO", "replication"), START, "the replica")
        text = (
            f"sentinel monitor live {HOST} {master.port} 2\n"
            "sentinel down-after-milliseconds live 500\n"
            "sentinel failover-timeout live 5000\n"
        )
        watchers = [run(Redis(here, sentinel=text)) for _ in range(3)]
        for watcher in watchers:
            wait_until(lambda one=watcher: _knows(one), START, "the Sentinels to know each other")
        yield [master, replica], watchers


def _knows(watcher: Redis) -> bool:
    fields = watcher.cli("SENTINEL", "MASTER", "live").split("\n")
    facts = dict(zip(fields[::2], fields[1::2], strict=False))
    return facts.get("num-slaves") == "1" and facts.get("num-other-sentinels") == "2"
