"""The subscribers of one channel in this process, in groups that get the same bytes; and those on their way in."""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum

from freshet.dialects.base import Dialect
from freshet.hub.continuity import Continuity
from freshet.hub.last_values import LastValues
from freshet.model.entries import StateEntry, entry_of
from freshet.model.events import Delivery, Joined, Left, Published
from freshet.model.frame import Frame
from freshet.model.log import Publication
from freshet.rules.filters import CompiledFilter
from freshet.rules.rules import ChannelRule
from freshet.session.outbox import Outbox
from freshet.session.session import Session


class Delta(Enum):
    """How a publication goes to a subscriber."""

    NONE = "none"  # whole
    FIRST = "first"  # whole, and from the next one on as a difference
    ON = "on"  # as the difference to the last one that was fanned out, which this subscriber has
    KEYED = "keyed"  # as the difference to the last value of its key, of a state's changes: see `LastValues`


PRESENCE_EVENTS = 128
"""Who comes and goes while a session is on its way in: so many are queued for it, the last of them."""

GREETED = 1000
"""What is published while a channel's owner greets a session: so many publications are queued, the last of them."""

Encoded = dict[str, list[Frame | None]]
"""The events of a turn, by dialect."""

Tap = Callable[[list[Delivery]], None]
"""Takes what is fanned out in a channel, for an operator who looks on. It is nobody's subscription."""

Follow = Callable[[Joined | Left], None]
"""Takes who comes and goes in a channel, whether or not its subscribers are notified. No subscription either."""


class Group:
    """Those subscribers of a channel who get the same bytes: their outboxes by session. label: see `Dialect`."""

    __slots__ = ("delta", "dialect", "label", "outboxes", "tag_filter")

    def __init__(self, dialect: Dialect, delta: Delta, tag_filter: CompiledFilter | None) -> None:
        self.dialect = dialect
        self.label = dialect.label
        self.delta = delta
        self.tag_filter = tag_filter
        self.outboxes: dict[Session, Outbox] = {}

    def encode(
        self,
        events: list[Delivery],
        before: Publication | None,
        whole: Encoded,
        keyed: Sequence[Publication | None] = (),
    ) -> list[Frame]:
        """The frames for each of them, not joined yet.

        before: the last publication that was fanned out. whole: what other groups have encoded already. keyed: for each
        event the last value of its key.
        """
        if self.delta is Delta.KEYED:
            frames = list(map(self._difference, events, keyed))
        elif self.delta is not Delta.NONE:
            frames = self._differences(events, before if self.delta is Delta.ON else None)
        else:
            known = whole.get(self.dialect.name)
            if known is None:
                known = whole[self.dialect.name] = list(map(self.dialect.encode, events))
            frames = known if self.tag_filter is None else self._chosen(self.tag_filter, events, known)
        return list(filter(None, frames))

    def offer(self, channel: str, events: list[Delivery], whole: Encoded, *, conflate: bool) -> list[Frame]:
        """Push what may be dropped, if it is a publication, and answer what each of them was offered.

        conflate: a later one of the same tag `key` takes its place.
        """
        pushed: list[Frame] = []
        frames = whole.get(self.dialect.name)
        if frames is None:
            frames = whole[self.dialect.name] = list(map(self.dialect.encode, events))
        for event, frame in zip(events, frames, strict=True):
            if frame is None or (self.tag_filter is not None and not _passes(self.tag_filter, event)):
                continue
            pushed.append(frame)
            if type(event) is not Published:
                for outbox in self.outboxes.values():
                    outbox.push(frame)
                continue
            key = (channel, (event.publication.tags or {}).get("key", "")) if conflate else frame
            for outbox in self.outboxes.values():
                outbox.offer(frame, key)
        return pushed

    def _differences(self, events: list[Delivery], before: Publication | None) -> list[Frame | None]:
        frames: list[Frame | None] = []
        for event in events:
            frames.append(self._difference(event, before))
            before = event.publication if type(event) is Published else before
        return frames

    def _difference(self, event: Delivery, before: Publication | None) -> Frame | None:
        return self.dialect.encode_after(event, before) if type(event) is Published else self.dialect.encode(event)

    @staticmethod
    def _chosen(tag_filter: CompiledFilter, events: list[Delivery], frames: list[Frame | None]) -> list[Frame | None]:
        return [frame for event, frame in zip(events, frames, strict=True) if _passes(tag_filter, event)]


def _passes(tag_filter: CompiledFilter, event: Delivery) -> bool:
    return type(event) is not Published or tag_filter(event.publication.tags)


class Subscribers:
    """The subscribers of one channel.

    groups: by dialect, delta and filter. filtered: those with a filter. mapped: those that take the channel's state as
    entries, and how changes go to them. last_values: of those of them that get differences; None: there are none.
    pending: what came in this turn. join_leave: they are notified of who comes and goes. welcomes: of those who settled
    in this turn, their own join and what came behind it, which the others have had. last: the publication that was
    fanned out last, where subscribers may get the difference to it. state_size: bytes that a state may have. occupied:
    somebody was subscribed. engine_subscription: the engine knows that this node wants the channel; None: not yet, or
    that failed. gap_check: the log is being read. fanned_out_total: events so far. taps: who looks on. follows: who
    looks who comes and goes.
    """

    __slots__ = (
        "channel",
        "continuity",
        "delta",
        "engine_subscription",
        "fanned_out_total",
        "filtered",
        "follows",
        "gap_check",
        "groups",
        "join_leave",
        "joining",
        "last",
        "last_values",
        "mapped",
        "occupied",
        "pending",
        "slow",
        "state_size",
        "taps",
        "welcomes",
    )

    def __init__(self, channel: str, rule: ChannelRule) -> None:
        self.channel = channel
        self.join_leave = rule.join_leave
        self.occupied = False
        self.delta = rule.delta
        self.slow = rule.slow
        self.last: Publication | None = None
        self.last_values: LastValues | None = None
        self.state_size = rule.state.size if rule.state is not None else 0
        self.groups: dict[tuple[str, Delta, CompiledFilter | None], Group] = {}
        self.filtered: dict[Session, CompiledFilter] = {}
        self.mapped: dict[Session, Delta] = {}
        self.continuity = Continuity(rule.history)
        self.engine_subscription: asyncio.Task[None] | None = None
        self.gap_check: asyncio.Task[None] | None = None
        self.joining: list[Joining] = []
        self.welcomes: dict[Session, list[Delivery]] = {}
        self.pending: list[Delivery] = []
        self.fanned_out_total = 0
        self.taps: tuple[Tap, ...] = ()
        self.follows: tuple[Follow, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.groups or self.joining)

    @property
    def count(self) -> int:
        """Sessions that are subscribed."""
        return sum(len(group.outboxes) for group in self.groups.values())

    def add(
        self, session: Session, delta: Delta, tag_filter: CompiledFilter | None = None, *, mapped: bool = False
    ) -> None:
        """mapped: it takes the channel's state as entries."""
        if mapped:
            self.mapped[session] = delta
        if tag_filter is not None:
            self.filtered[session] = tag_filter
        dialect = self.dialect_of(session)
        key = (dialect.name, delta, tag_filter)
        if key not in self.groups:
            self.groups[key] = Group(dialect, delta, tag_filter)
        self.groups[key].outboxes[session] = session.outbox

    def dialect_of(self, session: Session) -> Dialect:
        """What encodes for it what happens in this channel."""
        return session.dialect.entries if session in self.mapped else session.dialect

    def admit(self, joining: "Joining", publications: list[Publication]) -> None:
        """One that gets differences of a state comes in. publications: what it gets behind its entries."""
        values = joining.values(publications)
        if self.last_values is None:
            self.last_values = LastValues(self.state_size, values)
        else:
            joining.along = self.last_values.admit(values, returns=joining.returns)

    def encode_for(self, session: Session, event: Delivery) -> Frame | None:
        """An event that this one alone gets, whole."""
        dialect = self.dialect_of(session)
        if type(event) is Published and self.mapped.get(session) is Delta.KEYED:
            return dialect.encode_after(event, None)
        return dialect.encode(event)

    def remove(self, session: Session) -> bool:
        """Whether it was there."""
        self.welcomes.pop(session, None)
        tag_filter, dialect = self.filtered.pop(session, None), self.dialect_of(session)
        self.mapped.pop(session, None)
        for delta in Delta if self.delta else (Delta.NONE,):
            key = (dialect.name, delta, tag_filter)
            group = self.groups.get(key)
            if group is not None and group.outboxes.pop(session, None) is not None:
                if not group.outboxes:
                    del self.groups[key]
                    if delta is Delta.KEYED and not any(it.delta is delta for it in self.groups.values()):
                        self.last_values = None
                return True
        return False

    def fanned_out(self, events: list[Delivery]) -> None:
        """Who got one of these whole gets differences from now on."""
        published = [event.publication for event in events if type(event) is Published]
        if not published:
            return
        self.last = published[-1]
        for key, group in list(self.groups.items()):
            if group.delta is Delta.FIRST:
                del self.groups[key]
                for session in group.outboxes:
                    self.add(session, Delta.ON)


class Joining:
    """A session on its way into a channel.

    backlog: the last `limit` of what was published since it began. welcome: its own join, and who came and went since;
    empty: the engine has not delivered that yet. greeting: what it alone gets of the channel's owner; then what came
    since the log was read, if any, goes behind it, for the owner may have said how it was before. delta: it wants
    differences. tag_filter: which publications it wants; None: all. mapped: it takes the channel's state as entries,
    and gets `entries` of it, `along` others that differences will be to. returns: it has the other entries from before.
    """

    __slots__ = (
        "along",
        "backlog",
        "channel",
        "delta",
        "entries",
        "greeting",
        "limit",
        "mapped",
        "owned",
        "returns",
        "session",
        "subscribers",
        "tag_filter",
        "welcome",
    )

    def __init__(
        self,
        session: Session,
        subscribers: Subscribers,
        rule: ChannelRule,
        delta: bool,
        tag_filter: CompiledFilter | None,
    ) -> None:
        self.session = session
        self.channel = subscribers.channel
        self.subscribers = subscribers
        self.limit = rule.history.size if rule.history else 0
        self.delta = delta
        self.tag_filter = tag_filter
        self.backlog: list[Publication] = []
        self.welcome: list[Joined | Left] = []
        self.mapped = False
        self.entries: list[StateEntry] = []
        self.along: list[StateEntry] = []
        self.returns = False
        self.owned = False
        self.greeting: list[Publication] = []

    def values(self, publications: list[Publication]) -> dict[str, bytes]:
        """What it gets of each key as it comes in; empty: it is removed. publications: behind the entries."""
        changes = (entry for each in publications if (entry := entry_of(each)) is not None)
        return {entry.key: entry.value for entry in (*self.entries, *changes)}

    def begin_greeting(self) -> None:
        """The channel's owner is about to say what this client gets first: all that comes from now on is behind it."""
        self.owned = True
        if self.limit == 0:
            self.backlog.clear()
        self.limit = max(self.limit, GREETED)

    def queue(self, events: list[Delivery]) -> None:
        for event in events:
            if isinstance(event, Published):
                self.backlog.append(event.publication)
            elif event.info.client == self.session.id:
                # It may have been in the channel before, and leave it only now.
                self.welcome = [event] if type(event) is Joined else []
            elif self.welcome:
                self.welcome.append(event)
        del self.backlog[: max(0, len(self.backlog) - self.limit)]
        del self.welcome[1 : max(1, len(self.welcome) - PRESENCE_EVENTS)]
