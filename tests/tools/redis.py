"""Redis servers of the tests' own, each on a free loopback port with its data in a temporary folder."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

from tests.tools.broker import START, Broker
from tests.tools.need import require
from tests.tools.patience import eventually, seconds, wait_until
from tests.tools.ports import HOST, free_port


class Redis(Broker):
    """One server. It can be killed and come back with the data that it had written by then."""

    def __init__(
        self, folder: Path, *options: str, port: int | None = None, sentinel: str = "", password: str = ""
    ) -> None:
        port = port or free_port()
        super().__init__(port, folder / f"{port}.log")
        self._folder = folder
        self._options = options
        self._sentinel = sentinel  # the text of its configuration file
        self._environment = os.environ | ({"REDISCLI_AUTH": password} if password else {})

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
            env=self._environment,
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


class Tampering:
    """What stands between a server and its clients, and changes what the server replies. url: for the clients."""

    def __init__(self, server: Redis) -> None:
        self.url = ""
        self._server = server
        self._instead: tuple[bytes, bytes] | None = None
        self._clients: list[asyncio.StreamWriter] = []

    def replace(self, begins: bytes, instead: bytes) -> None:
        """The next replies that begin so and come at once are `instead`."""
        self._instead = (begins, instead)

    def say(self, text: bytes) -> None:
        """Every client receives this, though nobody asked."""
        for client in self._clients:
            client.write(text)

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(HOST, self._server.port)
        self._clients.append(to_client)
        requests = asyncio.ensure_future(_pass_on(client, to_server))
        try:
            while data := await _read(server):
                if self._instead is not None and data.startswith(self._instead[0]):
                    data, self._instead = self._instead[1], None
                to_client.write(data)
        finally:
            self._clients.remove(to_client)
            requests.cancel()
            for each in (to_client, to_server):
                each.close()
                with suppress(OSError):
                    await each.wait_closed()

    @property
    def is_used(self) -> bool:
        return bool(self._clients)


async def _read(reader: asyncio.StreamReader) -> bytes:
    with suppress(OSError):
        return await reader.read(65536)
    return b""


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await _read(reader):
        writer.write(data)
    writer.close()


@asynccontextmanager
async def tampering(server: Redis) -> AsyncIterator[Tampering]:
    """A server as clients see it through somebody who changes its replies, until the block ends and they are gone."""
    between = Tampering(server)
    listening = await asyncio.start_server(between.serve, HOST, 0)
    between.url = f"redis://{HOST}:{listening.sockets[0].getsockname()[1]}"
    try:
        yield between
    finally:
        listening.close()
        await eventually(lambda: not between.is_used, 5, "the end of all connections")


@contextmanager
def cluster(masters: int = 3, replicas: int = 0, tls: tuple[Path, Path] | None = None) -> Iterator[list[Redis]]:
    """The servers of a cluster that is ready. tls: certificate and key, with which each has a `tls-port`, too."""
    with tempfile.TemporaryDirectory(prefix="freshet-redis-") as folder, ExitStack() as stack:
        servers = []
        for _ in range(masters * (1 + replicas)):
            port = free_port()
            own = Path(folder, str(port))
            own.mkdir()
            options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
            options += ["--cluster-port", str(free_port()), "--repl-diskless-sync-delay", "0"]
            if tls is not None:
                options += [
                    "--tls-port",
                    str(free_port()),
                    "--tls-auth-clients",
                    "no",
                    "--tls-ca-cert-file",
                    str(tls[0]),
                ]
                options += ["--tls-cert-file", str(tls[0]), "--tls-key-file", str(tls[1]), "--tls-cluster", "yes"]
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
def sentinels(password: str = "") -> Iterator[tuple[list[Redis], list[Redis]]]:
    """A master and a replica, and three Sentinels that know the master as `live`. password: of all of them."""
    with tempfile.TemporaryDirectory(prefix="freshet-redis-") as folder, ExitStack() as stack:
        here = Path(folder)

        def run(server: Redis) -> Redis:
            server.start()
            stack.callback(server.stop)
            return server

        options = ["--repl-diskless-sync-delay", "0"]
        if password:
            options += ["--requirepass", password, "--masterauth", password]
        master = run(Redis(here, *options, password=password))
        replica = run(Redis(here, "--replicaof", HOST, str(master.port), *options, password=password))
        wait_until(lambda: "master_link_status:up" in replica.cli("INFO", "replication"), START, "the replica")
        text = (
            f"sentinel monitor live {HOST} {master.port} 2\n"
            "sentinel down-after-milliseconds live 500\n"
            "sentinel failover-timeout live 5000\n"
        )
        if password:
            text += f"sentinel auth-pass live {password}\nrequirepass {password}\n"
        watchers = [run(Redis(here, sentinel=text, password=password)) for _ in range(3)]
        for watcher in watchers:
            wait_until(lambda one=watcher: _knows(one), START, "the Sentinels to know each other")
        yield [master, replica], watchers


def _knows(watcher: Redis) -> bool:
    fields = watcher.cli("SENTINEL", "MASTER", "live").split("\n")
    facts = dict(zip(fields[::2], fields[1::2], strict=False))
    return facts.get("num-slaves") == "1" and facts.get("num-other-sentinels") == "2"
