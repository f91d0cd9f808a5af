"""A PostgreSQL of the tests' own, on a free loopback port, with its data in a temporary folder."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.tools.broker import Broker
from tests.tools.need import require
from tests.tools.patience import seconds
from tests.tools.ports import HOST, free_port


def _somebody() -> dict[str, Any]:
    """As whom it runs: it refuses to be root's."""
    if os.geteuid():
        return {}
    known = {it.pw_name: it.pw_gid for it in pwd.getpwall()}
    name = "postgres" if "postgres" in known else "nobody"
    return {"user": name, "group": known[name]}


class Postgres(Broker):
    """One server. It can be killed and come back with what it acknowledged."""

    def __init__(self, folder: Path) -> None:
        super().__init__(free_port(), folder / "output.log")
        self._data = folder / "data"
        self._written = 0  # characters of the log, when it was started last
        self._as = _somebody()
        if self._as:
            shutil.chown(folder, self._as["user"])
        self._command([require("initdb"), "-D", str(self._data), "-U", "freshet", "-A", "trust", "-N", "-E", "UTF8"])

    def _command(self, command: list[str]) -> None:
        subprocess.run(command, check=True, capture_output=True, timeout=seconds(60), cwd="/", **self._as)

    @property
    def url(self) -> str:
        return f"postgresql://freshet@{HOST}:{self.port}/postgres"

    def start(self) -> None:
        options = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "max_connections": "100",
            "autovacuum": "off",
            "fsync": "off",  # a process that is killed leaves all that it wrote to the kernel, and recovers at once
        }
        command = [require("postgres"), "-D", str(self._data), "-p", str(self.port)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        self._written = len(self._output())
        self._run(command, **self._as)

    def kill(self) -> None:
        """With all its processes, as a crash of the machine would: nothing is written any more (immediate shutdown)."""
        self._end(signal.SIGQUIT)

    def _answers(self) -> bool:
        return "ready to accept connections" in self._output()[self._written :]

    def _output(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="freshet-postgres-") as folder:
        server = Postgres(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
