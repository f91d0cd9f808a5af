"""A server of the tests' own that others are built on: it can be killed, paused, and come back."""

import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.tools.patience import seconds, wait_until

START = 20  # seconds, scaled


class Broker(ABC):
    """port: where it listens. log: the file that it writes to."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> None:
        """Run, and wait until it answers."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it does."""

    def _run(self, command: Sequence[str], **options: Any) -> None:
        """options: of `subprocess.Popen`."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)
        wait_until(self._runs, START, f"{command[0]} on port {self.port}")

    def _runs(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(self._log.read_text(errors="replace"))
        return self._answers()

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
