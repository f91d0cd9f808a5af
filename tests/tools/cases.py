"""Cases of a script in tests/node, one after the other in one process of Node: `with cases(node, SCRIPT) as play:`."""

import json
import os
import selectors
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

from tests.tools.need import require
from tests.tools.patience import seconds


class Cases:
    """env: added to the environment of the process."""

    def __init__(self, folder: Path, script: str, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._script = script
        self._env = {**os.environ, **env}
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, *given: str, within: float = 20) -> None:
        """Play one, and fail with what it fails with. What comes after a failure has a process of its own.

        given: what the script's `run` is called with. within: seconds, scaled.
        """
        process = self._process = self._process or self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # it ended, for which there is no answer
            process.stdin.write(json.dumps(given) + "\n")
            process.stdin.flush()
        readable = _readable(process.stdout, within)
        answer = process.stdout.readline() if readable else ""
        wrong = json.loads(answer) if answer else "it takes too long" if not readable else "it ended: see stderr"
        if wrong is not None:
            self.end()
            pytest.fail(wrong, pytrace=False)

    def _started(self) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [require("node"), "cases.mjs", self._script]
        return subprocess.Popen(command, cwd=self._folder, env=self._env, stdin=pipe, stdout=pipe, text=True)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
            self._process = None


def _readable(pipe: IO[str], within: float) -> bool:
    with selectors.DefaultSelector() as selector:  # `select.select` refuses the files of a process that has many
        selector.register(pipe, selectors.EVENT_READ)
        return bool(selector.select(seconds(within)))


@contextmanager
def cases(folder: Path, script: str, env: Mapping[str, str] | None = None) -> Iterator[Cases]:
    """folder: `tests/node`, with its packages. env: added to the environment."""
    played = Cases(folder, script, env or {})
    try:
        yield played
    finally:
        played.end()
