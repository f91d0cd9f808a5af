"""How many runs each user has at a time, on all nodes together: `runs.per_user`.

Whoever begins one notes it first and asks the others then: of two that begin at the same moment on two nodes, each sees
the other's, so that a limit is never passed. When the engine is away, each node counts its own.
"""

import msgspec

from freshet.errors import Refusal
from freshet.model.run_messages import RunRecord
from freshet.node.owners import Site

USERS = "run:user"
WAIT = 1.0  # seconds for what the other nodes say
COUNTS = frozenset({"queued", "running"})
"""The states of runs that count: one that waits for an answer costs nothing."""

_number = msgspec.json.Decoder(int).decode


class Users:
    """Those of one node. most: runs of each at a time; 0: any."""

    def __init__(self, node: Site, most: int) -> None:
        self._bus = node.bus
        self._most = most
        self._runs: dict[str, set[tuple[str, str]]] = {}  # by user: channel and run
        node.bus.handlers[USERS] = self._on_asked

    async def admit(self, user: str, channel: str, run: str) -> None:
        """It is to begin, and is noted if it may. Raises `Refusal` 106."""
        if not user or not self._most:
            return
        self._note(user, channel, run)
        replies = await self._bus.request_all(USERS, user.encode(), WAIT)
        if sum(map(_number, replies)) > self._most:
            self.forget(user, channel, run)
            raise Refusal.limit_exceeded(f"at most {self._most} runs at a time, see runs.per_user")

    def follow(self, channel: str, record: RunRecord) -> None:
        """Its state has changed, or it came from another node."""
        if record.state in COUNTS:
            self._note(record.user, channel, record.id)
        else:
            self.forget(record.user, channel, record.id)

    def _note(self, user: str, channel: str, run: str) -> None:
        if user and self._most:
            self._runs.setdefault(user, set()).add((channel, run))

    def forget(self, user: str, channel: str, run: str) -> None:
        if (runs := self._runs.get(user)) is not None:
            runs.discard((channel, run))
            if not runs:
                del self._runs[user]

    async def _on_asked(self, body: bytes) -> bytes:
        return str(len(self._runs.get(body.decode(), ()))).encode()
