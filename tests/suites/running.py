"""The suites of other projects against our server, on each engine: unmodified, but for the address in them."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.tools.nats import nats
from tests.tools.patience import seconds
from tests.tools.redis import redis
from tests.tools.serving import Server, serving

ENGINES = ("memory", "sqlite", "redis", "nats", "two workers")
CENTRIFUGE = """
personal_channels = true
origins = ["*"]
[tokens]
secret = "secret"
anonymous = true
[api]
key = "test-api-key"
[[channels]]
match = "clientkey:*"
state = { mode = "ephemeral", ttl = 60, key = "client" }
publish = "subscriber"
[[channels]]
match = "streamless:*"
state = { mode = "ephemeral", ttl = 60 }
publish = "client"
[[channels]]
match = "shortttl:*"
state = { mode = "ephemeral", ttl = 3 }
publish = "client"
[[channels]]
match = "debounced:*"
state = { mode = "ephemeral", ttl = 60 }
debounce = 0.05
publish = "client"
[[channels]]
match = "positioned:*"
state = {}
publish = "client"
[[channels]]
match = "tagged:*"
state = {}
publish = "client"
[[channels]]
match = "smallstream:*"
state = {}
history = { size = 2, ttl = 60 }
publish = "client"
[[channels]]
match = "prestest:*"
state = { mode = "ephemeral", ttl = 60 }
presence = true
read = "client"
[[channels]]
match = "prescli:*"
state = { of = "clients" }
[[channels]]
match = "mapdelta:*"
state = {}
delta = true
publish = "client"
[[channels]]
match = "smallhistory:*"
history = { size = 2, ttl = 300 }
publish = "subscriber"
read = "subscriber"
[[channels]]
match = "*"
history = { size = 100, ttl = 300 }
presence = true
join_leave = true
delta = true
publish = "client"
read = "client"
"""
"""The channels and keys that the suites of the Centrifuge clients expect."""


class Outcome(NamedTuple):
    """code: with which the suite ended. output: what it wrote, without colours."""

    code: int
    output: str

    def number(self, pattern: str) -> int:
        """What stands in the output where the pattern has its group; 0: nowhere."""
        found = re.search(pattern, self.output)
        return int(found[1]) if found else 0


@contextmanager
def on_engine(engine: str, folder: Path, *arguments: str) -> Iterator[Server]:
    """`freshet serve ARGUMENTS` on one of `ENGINES`. folder: for its file, if it has one."""
    workers = ("--workers", "2") if engine == "two workers" else ()
    with ExitStack() as stack:
        urls = {
            "sqlite": lambda: f"sqlite:///{folder / 'freshet.db'}",
            "redis": lambda: stack.enter_context(redis()).url,
            "nats": lambda: f"{stack.enter_context(nats()).url}?storage=memory",
        }
        env = {"FRESHET_ENGINE": urls[engine]()} if engine in urls else {}
        env["FRESHET_ROOMS__STORE"] = f"sqlite:///{folder / 'rooms.db'}"
        yield stack.enter_context(serving(*arguments, *workers, env=env))


@contextmanager
def for_centrifuge(engine: str, folder: Path) -> Iterator[Server]:
    """What the suites of the Centrifuge clients expect, on an engine."""
    config = folder / "freshet.toml"
    config.write_text(CENTRIFUGE)
    with on_engine(engine, folder, "--config", str(config), "--dev") as server:  # for their secret, which is too short
        yield server


def copied(suite: Path, folder: Path, server: Server, port: int) -> Path:
    """A copy of a suite that connects to the server instead of `localhost:port`."""
    copy = folder / suite.name
    shutil.copytree(suite, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", "node_modules"))
    if (suite / "node_modules").is_dir():
        (copy / "node_modules").symlink_to((suite / "node_modules").resolve())
    for path in copy.rglob("*"):
        if path.suffix in (".js", ".py", ".ts") and path.is_file() and "node_modules" not in path.parts:
            path.write_text(path.read_text().replace(f"localhost:{port}", f"{server.host}:{server.port}"))
    return copy


def run(command: Sequence[str], folder: Path, within: float) -> Outcome:
    """Run a suite that is in `folder`. within: seconds, scaled."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds(within))
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            output += f"\nstill running after {within:g} s, killed"
    return Outcome(process.returncode, re.sub(r"\x1b\[[0-9;]*m", "", output))
