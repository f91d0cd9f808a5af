"""Who listens to one channel in this process, in groups that are told the same bytes; and who is on the way in."""

import asyncio
from enum import Enum

from freshet.dialects.base import Dialect
from freshet.hub.continuity import Flow
from freshet.model.events import Delivery, Published
from freshet.model.frame import Frame
from freshet.model.log import Publication
from freshet.rules.filters import Wanted
from freshet.rules.rules import ChannelRule
from freshet.session.outbox import Outbox
from freshet.session.session import Session


class Telling(Enum):
    """How a publication is told to a listener."""

    WHOLE = "whole"
    FIRST = "first"  # whole, and from the next one on as a difference
    DIFFERENCE = "difference"  # to the last one that was fanned out, which this listener has


Encoded = dict[str, list[Frame | None]]
"""What happened in a turn, by dialect."""


class Group:
    """Those listeners of a channel who are told the same bytes: their outboxes by session. label: see `Dialect`."""

    __slots__ = ("dialect", "label", "outboxes", "telling", "wanted")

    def __init__(self, dialect: Dialect, telling: Telling, wanted: Wanted | None) -> None:
        self.dialect = dialect
        self.label = dialect.label
        self.telling = telling
        self.wanted = wanted
        self.outboxes: dict[Session, Outbox] = {}

    def encode(self, events: list[Delivery], before: Publication | None, whole: Encoded) -> list[Frame]:
        """What each is told, not joined yet.

        before: the last publication that was fanned out. whole: what other groups have encoded already.
        """
        if self.telling is not Telling.WHOLE:
            frames = self._differences(events, before if self.telling is Telling.DIFFERENCE else None)
        else:
            known = whole.get(self.dialect.name)
            if known is None:
                known = whole[self.dialect.name] = [self.dialect.encode(event) for event in events]
            frames = known if self.wanted is None else self._chosen(self.wanted, events, known)
        return [frame for frame in frames if frame is not None]

    def offer(self, channel: str, events: list[Delivery], whole: Encoded, *, keyed: bool) -> int:
        """Tell what may be dropped, if it is a publication, and answer how much each was told.

        keyed: it is dropped by a later one of the same tag `key`.
        """
        told = 0
        frames = whole.get(self.dialect.name)
        if frames is None:
            frames = whole[self.dialect.name] = [self.dialect.encode(event) for event in events]
        for event, frame in zip(events, frames, strict=True):
            if frame is None or (self.wanted is not None and not _wants(self.wanted, event)):
                continue
            told += 1
            if type(event) is not Published:
                for outbox in self.outboxes.values():
                    outbox.push(frame)
                continue
            key = (channel, (event.publication.tags or {}).get("key", "")) if keyed else frame
            for outbox in self.outboxes.values():
                outbox.offer(frame, key)
        return told

    def _differences(self, events: list[Delivery], before: Publication | None) -> list[Frame | None]:
        frames: list[Frame | None] = []
        for event in events:
            if type(event) is Published:
                frames.append(self.dialect.encode_after(event, before))
                before = event.publication
            else:
                frames.append(self.dialect.encode(event))
        return frames

    @staticmethod
    def _chosen(wanted: Wanted, events: list[Delivery], frames: list[Frame | None]) -> list[Frame | None]:
        return [frame for event, frame in zip(events, frames, strict=True) if _wants(wanted, event)]


def _wants(wanted: Wanted, event: Delivery) -> bool:
    return type(event) is not Published or wanted(event.publication.tags)


class Listeners:
    """Who listens to one channel.

    groups: by dialect, how they are told and what they want. choosy: those who do not want all. pending: what came in
    this turn. announces: they are told who comes and goes. last: the publication that was fanned out last, where
    listeners may be told the difference to it. hearing: the engine is told that this node listens; None: not yet, or in
    vain. checking: the log is read.
    """

    __slots__ = (
        "announces",
        "channel",
        "checking",
        "choosy",
        "delta",
        "flow",
        "groups",
        "hearing",
        "joining",
        "last",
        "pending",
        "slow",
    )

    def __init__(self, channel: str, rule: ChannelRule) -> None:
        self.channel = channel
        self.announces = rule.join_leave
        self.delta = rule.delta
        self.slow = rule.slow
        self.last: Publication | None = None
        self.groups: dict[tuple[str, Telling, Wanted | None], Group] = {}
        self.choosy: dict[Session, Wanted] = {}
        self.flow = Flow(rule.history)
        self.hearing: asyncio.Task[None] | None = None
        self.checking: asyncio.Task[None] | None = None
        self.joining: list[Joining] = []
        self.pending: list[Delivery] = []

    def __bool__(self) -> bool:
        return bool(self.groups or self.joining)

    def add(self, session: Session, telling: Telling, wanted: Wanted | None = None) -> None:
        key = (session.dialect.name, telling, wanted)
        if key not in self.groups:
            self.groups[key] = Group(session.dialect, telling, wanted)
        self.groups[key].outboxes[session] = session.outbox
        if wanted is not None:
            self.choosy[session] = wanted

    def remove(self, session: Session) -> bool:
        """Whether it was there."""
        wanted = self.choosy.pop(session, None)
        for telling in Telling if self.delta else (Telling.WHOLE,):
            key = (session.dialect.name, telling, wanted)
            group = self.groups.get(key)
            if group is not None and group.outboxes.pop(session, None) is not None:
                if not group.outboxes:
                    del self.groups[key]
                return True
        return False

    def told(self, events: list[Delivery]) -> None:
        """Who was told one of these whole is told differences from now on."""
        published = [event.publication for event in events if type(event) is Published]
        if not published:
            return
        self.last = published[-1]
        for key, group in list(self.groups.items()):
            if group.telling is Telling.FIRST:
                del self.groups[key]
                for session in group.outboxes:
                    self.add(session, Telling.DIFFERENCE)


class Joining:
    """A session on its way into a channel.

    waiting: the last `limit` of what was published since it began. delta: it wants to be told differences.
    wanted: what it wants to hear; None: all.
    """

    __slots__ = ("channel", "delta", "limit", "listeners", "session", "waiting", "wanted")

    def __init__(
        self, session: Session, listeners: Listeners, rule: ChannelRule, delta: bool, wanted: Wanted | None
    ) -> None:
        self.session = session
        self.channel = listeners.channel
        self.listeners = listeners
        self.limit = rule.history.size if rule.history else 0
        self.delta = delta
        self.wanted = wanted
        self.waiting: list[Publication] = []

    def wait(self, events: list[Delivery]) -> None:
        self.waiting += [event.publication for event in events if type(event) is Published]
        del self.waiting[: max(0, len(self.waiting) - self.limit)]
