"""Someone who follows a page from top to bottom, in an empty folder: `with reading(folder) as reader:`.

A block with a title is a file; `chat.js, continued` goes on with it. Blocks of a shell are typed as they stand, and
what they show below a command must come out of it, with `...` for what differs. Python without a title runs, TOML
is read as a configuration, JavaScript is checked by Node. Ports are free ones instead of those that the page names.
"""

import configparser
import importlib.metadata
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from freshet.config import parse
from tests.docs.blocks import Block
from tests.tools.need import require, require_npm_packages
from tests.tools.patience import seconds, wait_until
from tests.tools.plugins import USERS
from tests.tools.serving import GRACE, HOST, START, free_port

LONGEST = 30  # seconds, scaled, of one command
CONTINUED = ", continued"

_PLACE = re.compile(r"\b(127\.0\.0\.1|localhost):(\d{4})\b")
_BLANK = re.compile(r"\s+")
_TIME = re.compile(r"\d\d:\d\d:\d\d")
_LISTENS = re.compile(r"(\w+=\S+ )*(freshet serve|freshet demo|uvicorn|hypercorn|granian|python -m http\.server)\b")
_GOES_ON = re.compile(r"(\w+=\S+ )*(freshet tail|celery)\b")


class Process:
    """A command that goes on while the page does. expected: what the page says that it prints."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, expected: str, port: str = "") -> None:
        self.process = process
        self.output = output
        self.expected = expected
        self.port = port

    def log(self) -> str:
        return self.output.read_text(errors="replace")

    def end(self) -> None:
        """Only this process, by its id."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(seconds(GRACE))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Reader:
    """environment: of the commands. ports: a free one for each that the page names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports: dict[str, int] = {}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
        shown = {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120"}
        self.environment = {**clean, **shown, **USERS, "PATH": path, "FRESHET_URL": self.url("")}
        self._names: dict[str, object] = {"__name__": "page"}
        self._processes: list[Process] = []

    def url(self, path: str = "/", port: str = "8000") -> str:
        return f"http://{HOST}:{self.port(port)}{path}"

    def port(self, named: str = "8000") -> int:
        return self.ports.setdefault(named, free_port())

    def follow(self, blocks: list[Block]) -> None:
        for block in blocks:
            if not block.not_run:
                self._do(block)
        self._see_what_was_expected()

    def _see_what_was_expected(self) -> None:
        for it in self._processes:
            wait_until(lambda it=it: shows(it.log(), it.expected), 10, f"{it.expected}\nin: {it.log()}")

    def end(self) -> None:
        for process in self._processes:
            process.end()

    # ---------------------------------------------------------------------------------------------- one kind of block

    def _do(self, block: Block) -> None:
        code = _PLACE.sub(lambda found: f"{found[1]}:{self.port(found[2])}", block.code)
        if block.title and not block.title.startswith("/"):
            self._write(block.title, code)
        if block.language == "console":
            for command, expected in _typed(code):
                self._type(command, expected)
            if not _LISTENS.match(command) and not _GOES_ON.match(command):
                self._see_what_was_expected()
        elif block.language == "python":
            compiled = compile("\n" * (block.line - 1) + code, str(block.page), "exec", dont_inherit=True)
            if not block.title:
                exec(compiled, self._names)
        elif block.language == "toml":
            parse(tomllib.loads(code))
        elif block.language == "json":
            json.loads(code)
        elif block.language == "ini":
            configparser.ConfigParser().read_string(code)
        elif block.language == "js":
            check = [require("node"), "--check", "--input-type=module", "-"]
            done = subprocess.run(check, input=code, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{block}: {done.stderr}"
        else:
            needs = {"html": bool(block.title), "text": True}
            assert needs.get(block.language), f"{block}: nobody runs this. Mark it with <!-- not run: why -->"

    def _write(self, title: str, code: str) -> None:
        path = self.folder / title.removesuffix(CONTINUED)
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() + "\n" if title.endswith(CONTINUED) else ""
        path.write_text(before + code)

    # ------------------------------------------------------------------------------------------------------ one command

    def _type(self, command: str, expected: str) -> None:
        if command.startswith(("export ", "set -a; ")):
            pairs = self._run(f"{command}; env -0").split("\0")
            self.environment = dict(pair.split("=", 1) for pair in pairs if pair)
        elif command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")
        elif command.startswith("pip install "):
            for package in shlex.split(command)[2:]:
                importlib.metadata.distribution(package.partition("[")[0])  # the tests' environment has it
        elif command.startswith("npm install "):
            here = require_npm_packages() / "node_modules"
            assert all((here / package).is_dir() for package in shlex.split(command)[2:]), command
            (self.folder / "node_modules").symlink_to(here)
        elif _LISTENS.match(command):
            self._listen(command, expected)
        elif _GOES_ON.match(command):
            self._start(command, expected)
        else:
            output = self._run(command, fails=expected.startswith("error:"))
            assert shows(output, expected), f"$ {command}\n{output}\ndoes not show\n{expected}"

    def _run(self, command: str, *, fails: bool = False) -> str:
        tool = next((word for word in shlex.split(command) if word in ("curl", "node")), None)
        if tool:
            require(tool)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds(LONGEST),
            check=False,
        )
        assert (done.returncode != 0) is fails, f"$ {command}\n{done.stdout}"
        return done.stdout

    def _listen(self, command: str, expected: str) -> None:
        named = re.search(r"(?:--port |http\.server )(\d+)", command)
        port = named[1] if named else "8000"
        for process in self._processes:
            if process.port == port:
                process.end()  # the reader pressed Ctrl-C in that window
        if named:
            command = command.replace(named[0], named[0].replace(port, str(self.port(port))))
        else:
            command = f"{command.partition(' # ')[0]} --port {self.port()}"
        server = self._start(command, expected, port)

        def answers() -> bool:
            assert server.process.poll() is None, f"$ {command}\n{server.log()}"
            with socket.socket() as probe:
                return probe.connect_ex((HOST, self.port(port))) == 0

        wait_until(answers, START, f"{command} to listen")

    def _start(self, command: str, expected: str, port: str = "") -> Process:
        output = self.folder.parent / f"{self.folder.name}-{len(self._processes)}.log"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {command}"],
                cwd=self.folder,
                env=self.environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        self._processes.append(Process(process, output, expected, port))
        return self._processes[-1]


@contextmanager
def reading(folder: Path) -> Iterator[Reader]:
    """folder: an empty one."""
    reader = Reader(folder)
    try:
        yield reader
    finally:
        reader.end()


def _typed(code: str) -> Iterator[tuple[str, str]]:
    """The commands of a block, each with what is shown below it."""
    command, output = "", []
    for line in code.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(output)
            command, output = line[2:], []
        else:
            output.append(line)
    yield command, "\n".join(output)


def shows(output: str, expected: str) -> bool:
    """Whether `expected` stands in `output`: blanks do not count, `...` is anything, a time of day any other."""
    pieces = (_TIME.sub(lambda _: _TIME.pattern, re.escape(piece)) for piece in _BLANK.sub("", expected).split("..."))
    return re.search(".*?".join(pieces), _BLANK.sub("", output)) is not None
