"""A server, and load.c on it: what a command of the load cost the server.

with bed(server, speech, work) as it:
    it.do("connect 1000")
    cost = it.round("closed 1 128 3")
"""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.process import Process, free_port, served
from bench.speeches import Speech, centrifuge
from freshet.config import load as load_config
from freshet.policy.tokens import issue

HERE = Path(__file__).parent
CONFIG = HERE / "freshet.toml"
TOKENS = 19_001
MICROSECONDS = 1e6


class Cost(NamedTuple):
    """Microseconds of server CPU per delivery; milliseconds of latency."""

    user: float
    total: float
    p50: float
    p99: float


class Load:
    """load.c, as a process of its own. It is ended by its id."""

    def __init__(self, port: int, speech: Path, work: Path, *, first: int = 0, cores: str = "1") -> None:
        """speech: a file that `Speech.write` wrote. first: the number of its first subscriber."""
        self._process = subprocess.Popen(
            ["taskset", "-c", cores, *map(str, (work / "load", port, work / "tokens", speech, first))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, command: str) -> dict[str, Any]:
        """One command of load.c, and its answer."""
        self.begin(command)
        return self.answer()

    def begin(self, command: str) -> None:
        """Without waiting for the answer."""
        assert self._process.stdin is not None
        self._command = command
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """To the command that was begun."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load ended during {self._command!r}")
        return json.loads(line)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


class Bed:
    """One server and the load on it."""

    def __init__(self, server: Process, load: Load) -> None:
        self.server = server
        self._load = load
        self.do = load.do

    def round(self, command: str) -> Cost:
        before = self.server.cpu()
        answer = self.do(command)
        cost = self.server.cpu().since(before)
        per = MICROSECONDS / max(1, answer["deliveries"])
        return Cost(cost.user * per, (cost.user + cost.system) * per, answer["p50_ms"], answer["p99_ms"])


@contextmanager
def loaded(server: Process, speech: Speech, work: Path) -> Iterator[Bed]:
    """The load on a server that runs."""
    load = Load(server.port, speech.write(work / f"speech-{server.port}"), work)
    try:
        yield Bed(server, load)
    finally:
        load.end()


@contextmanager
def bed(name: str, work: Path, *, config: Path = CONFIG, env: Mapping[str, str] | None = None) -> Iterator[Bed]:
    """Start the limit, or Freshet, and its load; end both. env: added to the server's."""
    port = free_port()
    command = [str(work / "limit"), str(port)] if name == "limit" else freshet_command(port, config)
    with served(command, port, env=env) as server, loaded(server, centrifuge(), work) as it:
        yield it


def freshet_command(port: int, config: Path = CONFIG) -> list[str]:
    return [sys.executable, "-m", "freshet", "serve", "--config", str(config), "--port", str(port)]


def build(work: Path, tokens: int = TOKENS) -> None:
    """The load, the limit, and clients' tokens."""
    for name in ("limit", "load"):
        subprocess.run(["cc", "-O2", "-o", str(work / name), str(HERE / f"{name}.c")], check=True)
    secret = load_config(CONFIG, {}).tokens.secret
    assert secret is not None
    lines = [issue(secret, f"user{index}", expires_in=3600) for index in range(tokens)]
    (work / "tokens").write_text("\n".join(lines) + "\n")


def raise_open_files() -> None:
    """As many as there may be."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
