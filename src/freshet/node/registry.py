"""The sessions of this process: all that are open, and those that are connected, by their user."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

from freshet.errors import Disconnect
from freshet.policy.limits import network_of
from freshet.session.session import Session

DRAIN_RATE = 500  # clients per second that are disconnected at least, when a node drains
DRAIN_STEP = 0.1  # seconds


class Registry:
    """Which sessions there are. It holds them; when they begin and end is decided elsewhere.

    closers: called when all are disconnected, to close what carries sessions and may have none.
    """

    def __init__(self) -> None:
        self.closers: list[Callable[[Disconnect], None]] = []
        self._closed = False
        self._open: set[Session] = set()
        self._connecting: set[Session] = set()
        self._by_user: dict[str, Session | tuple[Session, ...]] = {}  # most have one
        self._by_post: dict[str, Session] = {}
        self._by_address: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Session]:
        """All that are open, also those that have not connected yet."""
        return iter(self._open)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def users(self) -> int:
        """How many users have a session here."""
        return len(self._by_user)

    def names(self) -> list[str]:
        """Of those users."""
        return list(self._by_user)

    def of(self, user: str, client: str = "", post: str = "") -> list[Session]:
        """A user's connected sessions, or only the one with the id `client`, or that of `posting`."""
        return [
            session
            for session in self._of_user(user)
            if (not client or session.id == client) and (not post or session.post == post)
        ]

    def _of_user(self, user: str) -> tuple[Session, ...]:
        found = self._by_user.get(user, ())
        return found if isinstance(found, tuple) else (found,)

    def of_address(self, address: str) -> int:
        """How many are open of those that come from there. address: as `network_of` has it."""
        return self._by_address[address] if address else 0

    def connecting(self, user: str, client: str = "", post: str = "") -> list[Session]:
        """As `of`, those that are about to connect, as far as it is known whose they are."""
        here = self._connecting
        return [it for it in here if user and it.user == user and client in ("", it.id) and post in ("", it.post)]

    def posting(self, post: str) -> Session | None:
        """The session for which requests of their own bring what its client says."""
        return self._by_post.get(post)

    def opened(self, session: Session) -> None:
        self._open.add(session)
        if session.handshake is not None and (address := network_of(session.handshake.client)):
            session.address = address
            self._by_address[address] += 1
        if self._closed:  # its request came before the end, and was slow
            session.close(Disconnect.shutdown())
        if session.post:
            self._by_post[session.post] = session

    def begun(self, session: Session) -> None:
        """Its client has asked to connect."""
        self._connecting.add(session)

    def connected(self, session: Session) -> None:
        self._connecting.discard(session)
        if session.user:
            others = self._of_user(session.user)
            self._by_user[session.user] = (*others, session) if others else session

    def ended(self, session: Session) -> None:
        self._open.discard(session)
        self._connecting.discard(session)
        self._by_post.pop(session.post, None)
        if session.address:
            self._by_address[session.address] -= 1
            if not self._by_address[session.address]:
                del self._by_address[session.address]
        if session.connected:
            others = tuple(each for each in self._of_user(session.user) if each is not session)
            self._by_user.pop(session.user, None)
            if others:
                self._by_user[session.user] = others if len(others) > 1 else others[0]

    def disconnect_all(self) -> None:
        """Disconnect all clients with 3001, until `reopen` also those that come: they reconnect, elsewhere or later."""
        self._closed = True
        for session in list(self._open):
            session.close(Disconnect.shutdown())
        for close in self.closers:
            close(Disconnect.shutdown())

    def reopen(self) -> None:
        """The node starts, perhaps again."""
        self._closed = False

    async def drain(self, seconds: float) -> None:
        """As `disconnect_all`, at a pace at which other nodes, or this one when it is back, can take them."""
        sessions = list(self._open)
        batch = max(DRAIN_RATE * DRAIN_STEP, len(sessions) * DRAIN_STEP / seconds)
        for number in range(0, len(sessions), round(batch)):
            for session in sessions[number : number + round(batch)]:
                session.close(Disconnect.shutdown())
            await asyncio.sleep(DRAIN_STEP if number + batch < len(sessions) else 0)
        self.disconnect_all()
