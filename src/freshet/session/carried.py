"""What a transport knows of whom it carries."""

from typing import Protocol

from freshet.config import Bound
from freshet.errors import Disconnect
from freshet.model.frame import Frame
from freshet.session.outbox import Outbox
from freshet.session.session import Host


class Carried(Protocol):
    """What a transport carries: a `Session`, or what several sessions share."""

    outbox: Outbox

    @property
    def connected(self) -> bool:
        """Whether it has shown who it is."""

    @property
    def host(self) -> Host: ...

    @property
    def largest(self) -> Bound:
        """What the client may send at once."""

    @property
    def largest_frame(self) -> int:
        """Bytes of one frame of it."""

    @property
    def backlog_full(self) -> bool: ...

    def open(self) -> None: ...

    def receive(self, frame: Frame) -> None: ...

    def alive(self) -> None: ...

    def answered(self) -> None: ...

    def close(self, why: Disconnect) -> None: ...

    def end(self, why: Disconnect) -> None: ...
