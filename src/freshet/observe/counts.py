"""What a node counts as it works: plain numbers, which become metrics only when somebody asks for them."""

from collections.abc import Hashable
from typing import TypeVar

import msgspec

LAGS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds, of `Counts.lags`

K = TypeVar("K", bound=Hashable)


class Counts(msgspec.Struct):
    """Since the process began; none of them ever falls.

    By dialect: connected, clients; delivered, publications and who joined or left, each time one was put in a client's
    outbox. By code: ended, clients that had connected; refusals, of commands.

    published: what clients and the application published, accepted by the engine; unpublished: not accepted, as the
    engine was away. fanned_out: publications and who joined or left, as they came to this node's subscribers.
    recovered, unrecovered: subscriptions that said where they stood. gaps: times that something was missing in the
    live flow, which the log still had; losses: which it had no longer, so that the subscribers were disconnected.
    lags: how late the loop was, by `LAGS` and one more for what was longer; lag: the sum, seconds.
    """

    connected: dict[str, int] = {}
    delivered: dict[str, int] = {}
    ended: dict[int, int] = {}
    refusals: dict[int, int] = {}
    published: int = 0
    unpublished: int = 0
    fanned_out: int = 0
    recovered: int = 0
    unrecovered: int = 0
    gaps: int = 0
    losses: int = 0
    lags: list[int] = msgspec.field(default_factory=lambda: [0] * (len(LAGS) + 1))
    lag: float = 0.0

    def late(self, seconds: float) -> None:
        """The loop did something so much later than it should have."""
        self.lags[sum(seconds > each for each in LAGS)] += 1
        self.lag += seconds


def add(counts: dict[K, int], key: K, number: int = 1) -> None:
    counts[key] = counts.get(key, 0) + number


class Snapshot(msgspec.Struct):
    """One node at one moment. clients: by dialect. turned_away: clients that were not admitted.

    cpu: seconds that the process has used. memory: resident bytes. uptime: seconds.
    """

    counts: Counts
    state: str
    clients: dict[str, int]
    users: int
    channels: int
    subscriptions: int
    turned_away: int
    uptime: float
    cpu: float = 0.0
    memory: int = 0
