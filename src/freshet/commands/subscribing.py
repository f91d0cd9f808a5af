"""A session's way into a channel, in two phases, whoever asked for it.

`enter` may wait: for a hook, for the engine. `settle` does not: what it answers is what the client has to get, and the
live flow begins right behind that.

Before it waits, `enter` reserves the channel in the session. So two ways in come one after the other: the second waits
for the first and looks again. And whoever ends a subscription that has not begun yet revokes the reservation.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import NamedTuple

from msgspec import structs

from freshet.errors import Disconnect, Refusal
from freshet.hub.subscribers import Joining
from freshet.model.entries import EntryPage, EntryResult, StateEntry
from freshet.model.events import Subscribed
from freshet.model.log import NOWHERE, OLDEST, History, Position, Publication, Stream
from freshet.node.node import Node
from freshet.node.owners import ChannelSummary, Door
from freshet.observe.counts import add
from freshet.observe.logs import BoundedLog
from freshet.policy.base import NO_GRANT, Grant
from freshet.rules.filters import CompiledFilter
from freshet.rules.rules import ChannelRule
from freshet.runtime.tasks import in_task
from freshet.session.session import Session
from freshet.session.subscription import Subscription

_log = BoundedLog(logging.getLogger("freshet.commands"))


class Asked(NamedTuple):
    """How a client asked for a channel. parameters: of its name, by the rule. data: JSON that it sent along.

    delta: it can apply differences between publications. tag_filter: which publications it wants; None: all. page: of
    the channel's state, if it takes that as entries.
    """

    parameters: Mapping[str, str] = MappingProxyType({})
    data: bytes = b""
    delta: bool = False
    tag_filter: CompiledFilter | None = None
    page: EntryPage | None = None


BY_SERVER = Asked()
"""It did not ask."""


class Entry:
    """A session on its way into a channel, between its first step and `settle`. Implements `session.Reservation`.

    joining: its place in the hub; None: not yet. stream: what the log held after `since`; None: there is no log.
    size: bytes of that, nearly. page: of the channel's state; when more follow it does not come in yet. owner: the task
    that enters; None: it began without one, as no hook is run. door: of the channel's owner, once it has asked there.
    summary: of the channel's log, which takes the place of what it missed.
    """

    __slots__ = (
        "channel",
        "door",
        "joining",
        "owner",
        "page",
        "released",
        "revoked",
        "session",
        "since",
        "size",
        "stream",
        "subscription",
        "summary",
    )

    def __init__(self, session: Session, channel: str, subscription: Subscription, since: Position | None) -> None:
        self.session = session
        self.channel = channel
        self.subscription = subscription
        self.since = since
        self.joining: Joining | None = None
        self.door: Door | None = None
        self.stream: Stream | None = None
        self.page: EntryResult | None = None
        self.summary: ChannelSummary | None = None
        self.size = 0
        self.owner = asyncio.current_task()
        self.revoked = False
        self.released: asyncio.Event | None = None  # most have nobody who waits

    @property
    def is_complete(self) -> bool:
        """Whether all that came after `since` can be replayed."""
        return self.stream is not None and (self.since is None or self.stream.follows(self.since))

    @property
    def greeting(self) -> list[Publication]:
        return self.joining.greeting if self.joining is not None else []

    def check(self) -> None:
        """Whether it may go on, asked when it has waited. Raises `Disconnect` when the session ends, and `Revoked`."""
        if self.session.ended or self.session.outbox.closed:
            raise Disconnect.normal()
        if self.revoked:
            raise Revoked.permission_denied("the server ended the subscription")


class Revoked(Refusal):
    """A subscription was ended before it began."""


def ttl_of(expires: float, now: float) -> int | None:
    """Seconds that are left, for the client; None: it does not expire."""
    return max(1, int(expires - now)) if expires else None


async def enter(
    node: Node,
    session: Session,
    channel: str,
    rule: ChannelRule,
    since: Position | None = None,
    *,
    grant: Grant = NO_GRANT,
    asked: Asked = BY_SERVER,
    before: Iterable[Entry] = (),
) -> Entry:
    """Read what it missed. From here on, what is published is queued for the session until `settle`.

    Whether it may has been decided; where the client asked, the rule's hook has its say too. before: other channels
    that it enters at once.

    Raises `Refusal`: 105 when the session is in the channel, however it came in; and `Disconnect` when it ends
    meanwhile.
    """
    if rule.on_subscribe is not None or rule.owner != "log":
        await in_task()  # the application has its say
    if channel in session.subscriptions or (session.reservations and await _is_in(session, channel)):
        raise Refusal.already_subscribed()
    _check_room(node, session)
    present = rule.presence and session.dialect.has_presence
    subscription = Subscription(rule, grant.info, grant.expires, present=False, issued=grant.issued)
    entry = Entry(session, channel, subscription, since)
    session.reserve(channel, entry)
    try:
        if asked is not BY_SERVER and rule.on_subscribe is not None:
            about = {"channel": channel, **asked.parameters}
            await node.invoking.invoke(rule.on_subscribe, session, session, data=asked.data, **about)
            entry.check()
        delta = asked.delta and rule.delta and (rule.state is None or asked.page is not None)
        tag_filter = asked.tag_filter
        entry.joining = joining = await node.hub.join(session, channel, rule, delta=delta, tag_filter=tag_filter)
        if rule.history is not None:
            entry.stream = await _missed(node, entry, rule, rule.history, before)
            await node.hub.catch_up(joining, entry.stream.position)
        if (door := node.doors.get(rule.owner)) is not None and session.dialect.has_presence:
            entry.check()
            await _greet(entry, joining, door, asked)
        if present and not (entry.page is not None and entry.page.more):
            entry.subscription.present = True
            await node.presence.enter(session, channel, entry.subscription)
        entry.check()
    except BaseException:
        abandon(node, entry)
        raise
    return entry


async def _missed(node: Node, entry: Entry, rule: ChannelRule, keep: History, before: Iterable[Entry]) -> Stream:
    """What is in the channel's log behind `since`, or a summary of all that was published."""
    channel, since = entry.channel, entry.since
    stream = await node.catch_up.read(channel, keep, since)
    entry.stream = stream if since is None else _bounded(node, entry, stream, before)
    if (summarizer := node.summarizers.get(rule.owner)) is None:
        return entry.stream
    if since not in (None, OLDEST) and entry.is_complete:
        summarizer.watched(channel)
        return entry.stream
    entry.summary = await summarizer.summarize(channel)
    return Stream([], entry.summary.position)


async def _greet(entry: Entry, joining: Joining, door: Door, asked: Asked) -> None:
    """Let the channel's owner say whether it may, and what it gets first."""
    joining.mapped = entry.subscription.mapped = asked.page is not None
    joining.begin_greeting()
    entry.door = door
    complete = entry.since is not None and entry.is_complete
    greeting = await door.enter(entry.session, entry.channel, asked.data, asked.page, is_complete=complete)
    joining.greeting[:0] = greeting.publications
    entry.page = greeting.page
    if asked.page is not None and greeting.page is not None:
        joining.entries = [*greeting.page.entries, *greeting.page.later]
        joining.returns = asked.page.limit == 0


def _bounded(node: Node, entry: Entry, stream: Stream, before: Iterable[Entry]) -> Stream:
    """What it missed, if that is not too much to be sent at once: then it is not recovered, and its client reads anew.

    One that asks for all that there still is gets the newest.
    """
    publications = stream.publications
    if entry.session.dialect.pages:
        return stream
    sizes = [publication.size for publication in publications]
    entry.size = sum(sizes)
    room = node.config.limits.replay - sum(each.size for each in before)
    if entry.size <= room:
        return stream
    first = 0
    while entry.size > room and first < len(sizes):
        entry.size -= sizes[first]
        first += 1
    if entry.since == OLDEST:
        return Stream(publications[first:], stream.position)
    entry.size = 0
    _log.warning(
        "replay",
        "%r missed more in %r than it can get at once: it is not recovered; see limits.replay",
        entry.session,
        entry.channel,
    )
    return Stream([], stream.position)


async def _is_in(session: Session, channel: str) -> bool:
    """Whether it is in the channel, asked when no other way in is under way any more.

    A hook that lets the client in does not wait for itself: there it counts as in.
    """
    while (other := session.reserved(channel)) is not None:
        if other.owner is not None and other.owner is asyncio.current_task():
            return True
        if other.released is None:
            other.released = asyncio.Event()
        await other.released.wait()
    return channel in session.subscriptions


def _check_room(node: Node, session: Session) -> None:
    if session.ended or session.outbox.closed:
        raise Disconnect.normal()
    if len(session.subscriptions) + len(session.reservations or ()) >= node.config.limits.channels_per_client:
        most = node.config.limits.channels_per_client
        raise Refusal.limit_exceeded(f"at most {most} channels per client, see limits.channels_per_client")


async def let_in(
    node: Node,
    session: Session,
    channel: str,
    since: Position | None = None,
    grant: Grant = NO_GRANT,
    data: bytes = b"",
) -> None:
    """Subscribe it by the server's will, and notify it. One that is in, or comes in by itself, is left as it is.

    When the server ends the subscription meanwhile, that holds. Raises as `enter`.
    """
    rule, _ = node.rules.find(channel)
    if not await _is_in(session, channel):
        with suppress(Revoked):
            session.push(settle(node, await enter(node, session, channel, rule, since, grant=grant), data=data))


async def enter_all(
    node: Node, session: Session, channels: Iterable[str], recover: Mapping[str, Position]
) -> list[Entry]:
    """Into all channels to which the server subscribes a client, or into none. Raises as `enter`.

    Left out are those that it is in already, by its hook, and those that the server has ended meanwhile.
    """
    entries: list[Entry] = []
    try:
        for channel in dict.fromkeys(channels):
            rule, _ = node.rules.find(channel)
            if not await _is_in(session, channel):
                with suppress(Revoked):
                    entries.append(await enter(node, session, channel, rule, recover.get(channel), before=entries))
    except BaseException:
        for entry in entries:
            abandon(node, entry)
        raise
    return entries


def abandon(node: Node, entry: Entry) -> None:
    """It comes to nothing."""
    session, channel = entry.session, entry.channel
    session.release(channel)
    if entry.joining is None:
        return
    node.hub.abandon(entry.joining)
    if entry.door is not None:
        entry.door.leave(session, channel)
    if entry.subscription.present:
        node.tasks.start(node.presence.leave(session, channel), "presence: leave")


def settle(node: Node, entry: Entry, id: int = 0, data: bytes = b"") -> Subscribed:
    """It is in. The caller pushes what this answers to the session before it gives the loop a turn."""
    session, channel, joining, subscription = entry.session, entry.channel, entry.joining, entry.subscription
    assert joining is not None  # `enter` has returned
    if entry.since is not None and entry.since != OLDEST and session.may_return:
        session.may_return = False  # it says where it stood: it was here before
        add(node.counts.returned, session.way)
    since = entry.since if entry.summary is None else entry.summary.position
    stream, recovered = node.hub.settle(joining, entry.stream, since)
    if entry.summary is not None:
        stream, recovered = _summed_up(entry, entry.summary, stream, recovered)
        since = entry.since or OLDEST  # one that loses the summary on its way gets it again
    subscription.position = since if since and recovered is not False else stream.position
    session.subscriptions[joining.channel] = subscription  # which is one text for all that are in it
    session.release(channel)
    if subscription.expires:
        node.wheel.schedule(session, 0)  # it learns when its next visit is due
    return Subscribed(
        channel=channel,
        id=id,
        position=stream.position,
        recoverable=entry.stream is not None,
        recovered=recovered,
        publications=stream.publications,
        ttl=ttl_of(subscription.expires, node.clock.wall()),
        data=data,
        delta=joining.delta,
        entries=_chosen(joining, entry.page.entries) + joining.along if entry.page is not None else None,
        summed_up=entry.summary is not None,
        debounce=subscription.rule.debounce,
    )


def settle_mapped(node: Node, entry: Entry, id: int, page: EntryPage) -> Subscribed:
    """As `settle`, for a client that takes the channel's state as entries, a page of which is in `entry`.

    Where more follow it is not in yet: it asks for the next page with the position of the first, and gets with the last
    one all that changed since. Raises `Refusal` 112 when that is not known any more.
    """
    assert entry.page is not None  # the rule has a state
    assert entry.joining is not None
    if entry.page.more and page.limit:
        entries, cursor = _chosen(entry.joining, entry.page.entries), entry.page.entries[-1].key
        position = entry.since or (
            entry.stream.position if entry.stream is not None else entry.page.position or NOWHERE
        )
        abandon(node, entry)
        delta = entry.joining.delta
        return Subscribed(entry.channel, id, position, recoverable=True, delta=delta, entries=entries, cursor=cursor)
    subscribed = settle(node, entry, id)
    if entry.page.later:
        later = [each.publication() for each in _chosen(entry.joining, entry.page.later)]
        return structs.replace(subscribed, publications=later)
    # Between its pages a client has not been away.
    return structs.replace(subscribed, recovered=None) if page.limit and subscribed.recovered else subscribed


def _chosen(joining: Joining, entries: list[StateEntry]) -> list[StateEntry]:
    tag_filter = joining.tag_filter
    return [each for each in entries if tag_filter is None or tag_filter(each.tags)]


def _summed_up(
    entry: Entry, summary: ChannelSummary, stream: Stream, recovered: bool | None
) -> tuple[Stream, bool | None]:
    """The one publication that takes the place of all before, and whether the client is to know it as recovered."""
    if not recovered:  # more was published than the log keeps since it was read: the client comes again
        entry.session.outbox.close(Disconnect.insufficient_state())
        return stream, recovered
    publications = [summary.publication(stream.publications)] if stream.position.offset else []
    return Stream(publications, stream.position), None if entry.since is None else True


def settle_all(node: Node, entries: Iterable[Entry]) -> list[Subscribed]:
    """As `settle`, but for those that the server has ended while others were entered."""
    settled: list[Subscribed] = []
    for entry in entries:
        if entry.revoked:
            abandon(node, entry)
        else:
            settled.append(settle(node, entry))
    return settled
