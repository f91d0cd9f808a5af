"""What a client sent at once and is not decoded yet: it stays bytes until there is room for its commands."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from freshet.model.commands import Command, Pong


class Undecoded:
    """Frames of one client, the oldest first. portion: commands that are decoded at a time."""

    __slots__ = ("_frames", "_portion")

    def __init__(self, portion: int) -> None:
        self._frames: deque[Iterator[Command]] = deque()
        self._portion = portion

    def __bool__(self) -> bool:
        return bool(self._frames)

    def put(self, commands: Iterable[Command]) -> None:
        """commands: of one frame, each of which is decoded when it is asked for."""
        self._frames.append(iter(commands))

    def take(self) -> list[Command]:
        """The next commands of the oldest frame, without what only shows that the client is there.

        Raises `Disconnect`, as the frame's iterator.
        """
        portion = list(islice(self._frames[0], self._portion))
        if len(portion) < self._portion:
            self._frames.popleft()
        return [command for command in portion if type(command) is not Pong]
