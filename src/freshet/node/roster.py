"""Who is in a channel, or which users are, as entries: what becomes of them as one comes or goes."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

from freshet.model.entries import StateEntry
from freshet.model.log import ClientInfo
from freshet.rules.hooks import to_json

Of = Literal["clients", "users"]


class Roster:
    """of: one entry for each client, by its id; or for each user, who leaves with the last of his clients.

    A client without a user is in no roster of users.
    """

    def __init__(self, of: Of) -> None:
        self._of = of
        self._clients: dict[str, ClientInfo] = {}
        self._users: Counter[str] = Counter()

    def entries(self) -> list[StateEntry]:
        """In the order of their keys."""
        if self._of == "users":
            return [_user(user) for user in sorted(self._users)]
        return [_client(self._clients[client]) for client in sorted(self._clients)]

    def note(self, client: str, info: ClientInfo | None) -> list[StateEntry]:
        """It is there, or with None it is gone. The answer: the entries that this changes."""
        before = self._clients.pop(client, None)
        if info is not None:
            self._clients[client] = info
        if self._of == "users":
            return self._count(info.user if info else "", before.user if before else "")
        if info == before:
            return []
        return [_client(info) if info is not None else StateEntry(client, b"")]

    def _count(self, user: str, before: str) -> list[StateEntry]:
        """user: of a client now, before: until now; empty: none."""
        if user == before:
            return []
        changes: list[StateEntry] = []
        if before:
            self._users[before] -= 1
            if not self._users[before]:
                del self._users[before]
                changes.append(StateEntry(before, b""))
        if user:
            self._users[user] += 1
            if self._users[user] == 1:
                changes.append(_user(user))
        return changes

    def correct(self, present: dict[str, ClientInfo], but: Iterable[str]) -> list[StateEntry]:
        """The engine says who is there. The answer: as `note`. but: clients of which something newer is known."""
        known = set(but)
        gone = [client for client in self._clients if client not in present and client not in known]
        changes = [change for client in gone for change in self.note(client, None)]
        for client, info in present.items():
            if client not in known:
                changes += self.note(client, info)
        return changes


def _client(info: ClientInfo) -> StateEntry:
    value: dict[str, Any] = {"user": info.user} if info.user else {}
    parts = {"conn_info": info.conn_info, "chan_info": info.chan_info}
    value |= {name: part for name, part in parts.items() if part}
    return StateEntry(info.client, to_json(value), info=info)


def _user(user: str) -> StateEntry:
    return StateEntry(user, b"{}")
