"""What has been taken back: single tokens, all of a user, all that were issued before a time; and who is blocked.

This is what one node knows. It is told of by `node/revoking.py`, which knows the other nodes and the engine.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator

import msgspec

ENTRIES = 50_000  # that hold at a time
AHEAD = 60.0  # seconds by which the clock of whoever issues tokens may be ahead of ours


def issued_at(iat: float | None, now: float) -> float:
    """When a token was issued. One without `iat` counts as issued before everything, and so does one that says what
    cannot be, such as milliseconds: no revocation would ever reach it.
    """
    return iat if iat is not None and iat <= now + AHEAD else 0.0


class Revocation(msgspec.Struct, frozen=True, array_like=True):
    """token: the id (`jti`) of one token. user: of all tokens of that user; with neither, it is about all tokens.

    before: epoch seconds: tokens that were issued (`iat`) until then. until: when it need not be known any more, epoch
    seconds; 0: never. blocked: the user may not connect until then, whatever the token.
    """

    id: str
    token: str = ""
    user: str = ""
    before: float = 0.0
    until: float = 0.0
    blocked: bool = False


class Revocations:
    """All that hold. wall: seconds since 1970."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._entries: OrderedDict[str, Revocation] = OrderedDict()
        self._tokens: dict[str, float] = {}  # until when
        self._users: dict[str, Revocation] = {}
        self._blocks: dict[str, float] = {}
        self._all: Revocation | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Revocation]:
        """The oldest first."""
        return iter(self._entries.values())

    def __contains__(self, id: str) -> bool:
        return id in self._entries

    @property
    def is_full(self) -> bool:
        self.sweep()
        return len(self._entries) >= ENTRIES

    def add(self, it: Revocation) -> None:
        if it.id in self._entries or _end(it) <= self._wall():
            return
        self._entries[it.id] = it
        if it.blocked:
            self._blocks[it.user] = max(_end(it), self._blocks.get(it.user, 0.0))
        elif it.token:
            self._tokens[it.token] = max(_end(it), self._tokens.get(it.token, 0.0))
        elif it.user:
            self._users[it.user] = _stronger(it, self._users.get(it.user))
        else:
            self._all = _stronger(it, self._all)

    def revoked(self, user: str, token: str | None, issued: float | None) -> bool:
        """Whether a token is taken back. issued: its `iat`, see `issued_at`."""
        if not self._entries:
            return False
        now = self._wall()
        if token is not None and self._tokens.get(token, 0.0) > now:
            return True
        of_user, at = self._users.get(user), issued_at(issued, now)
        return any(it is not None and _end(it) > now and at <= it.before for it in (self._all, of_user))

    def blocked(self, user: str) -> bool:
        """Whether a user may not connect."""
        return bool(self._blocks) and self._blocks.get(user, 0.0) > self._wall()

    def sweep(self) -> None:
        """Forget what need not be known any more."""
        now = self._wall()
        for it in [it for it in self._entries.values() if _end(it) <= now]:
            del self._entries[it.id]
        for held in (self._tokens, self._blocks):
            for name in [name for name, until in held.items() if until <= now]:
                del held[name]
        for name in [name for name, it in self._users.items() if _end(it) <= now]:
            del self._users[name]


def _end(it: Revocation) -> float:
    return it.until or math.inf


def _stronger(it: Revocation, other: Revocation | None) -> Revocation:
    """What both say, in one: tokens issued until the later, for as long as the longer."""
    if other is None:
        return it
    until = 0.0 if 0.0 in (it.until, other.until) else max(it.until, other.until)
    return msgspec.structs.replace(it, before=max(it.before, other.before), until=until)
