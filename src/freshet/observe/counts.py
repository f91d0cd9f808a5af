"""What a node counts as it works: plain numbers, which become metrics only when somebody asks for them."""

from bisect import bisect_left
from collections.abc import Hashable
from typing import TypeVar

import msgspec

from freshet.observe.histograms import SECONDS, Distribution, Histogram

K = TypeVar("K", bound=Hashable)

KINDS = 20  # of usage

Way = tuple[str, str]
"""How a client is connected: its dialect, its transport."""


def _sizes() -> Histogram:
    return Histogram(sizes=True)


class RunCounts(msgspec.Struct):
    """Of runs, see `Freshet.run`. started: those that somebody asked for. begun, left: tasks of runs on this node.

    ended: by state. parts, characters: what functions wrote, each call of theirs for one. usage: what runs said that
    they cost, by kind. first: seconds from the beginning of a task until its first text was in the log.
    """

    started: int = 0
    begun: int = 0
    left: int = 0
    parts: int = 0
    characters: int = 0
    ended: dict[str, int] = {}
    usage: dict[str, int] = {}
    first: Histogram = msgspec.field(default_factory=Histogram)

    def cost(self, usage: object) -> None:
        """usage: of a message's metadata, numbers by kind; what is none is left out, as are kinds beyond the bound."""
        for kind, number in usage.items() if isinstance(usage, dict) else ():
            if type(number) is int and number > 0 and (kind in self.usage or len(self.usage) < KINDS):
                add(self.usage, kind, number)


class Counts(msgspec.Struct):
    """Since the process began; none of them ever falls. Times are seconds, sizes bytes of payload.

    By dialect and transport: connected, clients; returned, those of them that showed that they had been here before.
    By dialect: delivered, publications and who joined or left, each time one was put in a client's outbox. By code:
    ended, clients that had connected; refusals, of commands. By command: commands, how long each took. By operation:
    engine_errors. By policy: refused, requests and commands that did not pass it.

    received, sent: messages of clients, and to them. published: what clients and the application published, accepted
    by the engine; unpublished: not accepted, as the engine was away. fanned_out: publications and who joined or left,
    as they came to this node's subscribers. recovered, unrecovered: subscriptions that said where they stood. replayed:
    how many publications each of those got that recovered. gaps: times that something was missing in the live flow,
    which the log still had; losses: which it had no longer, so that the subscribers were disconnected.

    here, elsewhere: from when a publication was accepted, on this node or another one, until it was given to a
    subscriber's socket, once for each. round_trips: from a ping to its answer. publishing: until the engine accepted a
    publication. engine: until it answered when it was asked something, now and then. lag: how late the loop was. runs:
    see `RunCounts`.
    """

    connected: dict[Way, int] = {}
    returned: dict[Way, int] = {}
    delivered: dict[str, int] = {}
    ended: dict[int, int] = {}
    refusals: dict[int, int] = {}
    refused: dict[str, int] = {}
    commands: dict[str, Histogram] = {}
    engine_errors: dict[str, int] = {}
    received: int = 0
    received_bytes: int = 0
    sent: int = 0
    sent_bytes: int = 0
    published: int = 0
    unpublished: int = 0
    fanned_out: int = 0
    recovered: int = 0
    unrecovered: int = 0
    gaps: int = 0
    losses: int = 0
    runs: RunCounts = msgspec.field(default_factory=RunCounts)
    replayed: Histogram = msgspec.field(default_factory=_sizes)
    here: Histogram = msgspec.field(default_factory=Histogram)
    elsewhere: Histogram = msgspec.field(default_factory=Histogram)
    round_trips: Histogram = msgspec.field(default_factory=Histogram)
    publishing: Histogram = msgspec.field(default_factory=Histogram)
    engine: Histogram = msgspec.field(default_factory=Histogram)
    lag: Histogram = msgspec.field(default_factory=Histogram)

    def ran(self, command: str, seconds: float) -> None:
        """A command has come to an end, whatever that was."""
        histogram = self.commands.get(command)
        if histogram is None:
            histogram = self.commands[command] = Histogram()
        histogram.counts[bisect_left(SECONDS, seconds)] += (
            1  # as `observe`: once per command, a call would cost as much
        )
        histogram.sum += seconds

    def refuse(self, policy: str) -> None:
        """A request or a command did not pass a policy. policy: as the code calls it."""
        add(self.refused, policy)


def add(counts: dict[K, int], key: K, number: int = 1) -> None:
    counts[key] = counts.get(key, 0) + number


class Statistics(msgspec.Struct, frozen=True):
    """A node at this moment, and what it has done since it began. What happened between two of them is the difference.

    clients, users, channels, subscriptions: what it holds. outbox: bytes that wait for clients; behind: clients for
    which half of their limit waits, or more. connected, returned: clients. received, sent: messages. slow: clients
    that were disconnected as they did not read. dropped: messages that were, for want of room or for a later one.
    latency: from when a publication was accepted, on whichever node, until it was given to a socket; round_trip: from
    a ping to its answer; lag: how late the event loop was; seconds.
    """

    clients: int = 0
    users: int = 0
    channels: int = 0
    subscriptions: int = 0
    outbox: int = 0
    behind: int = 0
    connected: int = 0
    returned: int = 0
    received: int = 0
    received_bytes: int = 0
    sent: int = 0
    sent_bytes: int = 0
    published: int = 0
    refused: int = 0
    slow: int = 0
    dropped: int = 0
    latency: Distribution = Distribution()
    round_trip: Distribution = Distribution()
    lag: Distribution = Distribution()


class Snapshot(msgspec.Struct):
    """One node at one moment. clients: by dialect and transport. turned_away: clients that were not admitted.

    dropped, conflated: messages that were left out for a client that did not read in time, for want of room or as a
    later one took their place. engine_away: seconds since when the engine does not answer, 0: it does. cpu: seconds
    that the process has used. memory: resident bytes; memory_before: the same when it had no client yet. open_files,
    most_files: file descriptors; 0 where the system does not say. uptime: seconds.
    """

    counts: Counts
    state: str
    clients: dict[Way, int]
    users: int
    channels: int
    subscriptions: int
    turned_away: int
    uptime: float
    outbox: int = 0
    outbox_largest: int = 0
    behind: int = 0
    dropped: int = 0
    conflated: int = 0
    engine_away: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    memory_before: int = 0
    open_files: int = 0
    most_files: int = 0

    @property
    def memory_of_client(self) -> float:
        """Bytes that the process has grown by for each client that it has."""
        clients = sum(self.clients.values())
        return max(0, self.memory - self.memory_before) / clients if clients and self.memory_before else 0.0
