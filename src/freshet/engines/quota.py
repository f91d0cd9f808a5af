"""How many bytes logs may hold together, and which of them has to give way."""

from collections import OrderedDict
from typing import Protocol

LOG = 800  # bytes of an empty log, beside its channel's name


class Held(Protocol):
    """A log of a pool. channel: its name. size: bytes."""

    channel: str
    size: int


class Quota:
    """One pool of logs, by channel, the one that was quiet for longest first. most: bytes; 0: any number."""

    __slots__ = ("_logs", "most", "size")

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = 0
        self._logs: OrderedDict[str, Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._logs)

    def grown(self, log: Held, size: int) -> None:
        """Something was written to a log, which may be new: it has so many bytes more."""
        self.size += size
        self._logs[log.channel] = log
        self._logs.move_to_end(log.channel)

    def shrunk(self, size: int) -> None:
        self.size -= size

    def removed(self, log: Held) -> None:
        """A log is no more."""
        if self._logs.get(log.channel) is log:
            del self._logs[log.channel]
            self.size -= log.size

    def over(self) -> Held | None:
        """Who has to give way: the log that was quiet for longest; None: there is room."""
        if not self.most or self.size <= self.most:
            return None
        return next(iter(self._logs.values()), None)
