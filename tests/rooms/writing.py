"""Official clients that write into one map, in a process of their own, and whether what was acknowledged is in it."""

import json
import math
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.tools.need import require
from tests.tools.patience import seconds, wait_until
from tests.tools.serving import Server

CHANNEL = "map:x"


class Write(NamedTuple):
    """id: of the value; None: the entry was removed. call, returned: ms of one clock. outcome: ok, unknown, refused."""

    key: str
    id: str | None
    call: float
    returned: float
    outcome: str

    @property
    def end(self) -> float:
        """When it was done at the latest."""
        return self.returned if self.outcome == "ok" else math.inf


def lost(log: Sequence[Write], final: dict[str, Any]) -> Iterator[str]:
    """What cannot be, in words. final: the ids that the map has by their keys when all is over."""
    by_key: dict[str, list[Write]] = defaultdict(list)
    for write in log:
        if write.outcome != "refused":
            by_key[write.key].append(write)
    for key in {*by_key, *final}:
        writes = by_key[key]
        last = [write for write in writes if write.id == final.get(key)]
        if not last:
            if key in final or any(write.outcome == "ok" for write in writes):
                yield f"{key!r} is {final.get(key)!r}, which nobody wrote"
            continue
        end = max(write.end for write in last)
        for write in writes:
            if write.outcome == "ok" and write.id != final.get(key) and write.call > end:
                yield f"{key!r} is {final.get(key)!r}, but {write.id!r} was written later, and acknowledged"


class Writers:
    """`node mapwriters.mjs`, until the block ends."""

    def __init__(self, node: Path, servers: Sequence[Server], count: int) -> None:
        urls = ",".join(server.ws("/connection/websocket") for server in servers)
        command = [require("node"), "mapwriters.mjs", urls, CHANNEL, str(count)]
        self._process = subprocess.Popen(command, cwd=node, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._acknowledged = 0
        self._result: dict[str, Any] = {}
        self._reading = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._reading.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reading.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            read = json.loads(line)
            if "maps" in read:
                self._result = read
            else:
                self._acknowledged = read["acknowledged"]

    def go_on(self, writes: int, within: float = 60) -> None:
        """Until so many more are acknowledged."""
        target = self._acknowledged + writes
        wait_until(lambda: self._acknowledged >= target, within, f"{writes} writes to be acknowledged")

    def stop(self) -> tuple[list[dict[str, Any]], list[Write], int]:
        """What each client has in the end, all that was written, and how many deltas came."""
        assert self._process.stdin is not None
        self._process.stdin.write("stop\n")
        self._process.stdin.flush()
        self._reading.join(seconds(30))
        assert self._result, "some clients do not have all"
        return self._result["maps"], [Write(*each) for each in self._result["log"]], self._result["deltas"]
