"""A server that is measured: on a core of its own, by what the kernel says that it cost."""

import os
import random
import resource
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

TICK = os.sysconf("SC_CLK_TCK")
KIB = 1024


class Cpu(NamedTuple):
    """Seconds."""

    user: float
    system: float

    def since(self, before: "Cpu") -> "Cpu":
        return Cpu(self.user - before.user, self.system - before.system)


class Process:
    """A server that runs. Its threads count, its children do not."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.pid = process.pid
        self.port = port

    def cpu(self) -> Cpu:
        return _cpu(self.pid)

    def cpu_of_all(self) -> Cpu:
        """With its children."""
        each = [_cpu(pid) for pid in (self.pid, *self.children())]
        return Cpu(sum(cpu.user for cpu in each), sum(cpu.system for cpu in each))

    def memory(self) -> int:
        """Resident bytes."""
        return _memory(self.pid)

    def memory_of_all(self) -> int:
        """With its children; what they share counts for each."""
        return sum(_memory(pid) for pid in (self.pid, *self.children()))

    def children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]


def _cpu(pid: int) -> Cpu:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Cpu(int(fields[11]) / TICK, int(fields[12]) / TICK)


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) * KIB


def be_the_load() -> None:
    """On the core that no server has, with as many open files as there may be."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {1})


def free_port() -> int:
    """One that the kernel does not give to connections meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def served(
    command: Sequence[str],
    port: int,
    *,
    core: int | str = 0,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """Run `command`, which listens on `port`, on one core, or several, `0,1`; end it by its id."""
    with tempfile.NamedTemporaryFile() as log:
        environment = {**os.environ, **(env or {})}
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command], stdout=log, stderr=log, cwd=cwd, env=environment
        )
        try:
            _await_port(process, port, Path(log.name))
            yield Process(process, port)
        finally:
            process.kill()
            process.wait()


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(600):  # half a minute: the machine may be busy
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")
