"""A session's way into a channel, in two phases, whoever asked for it.

`enter` may wait: for a hook, for the engine. `settle` does not: what it answers is what the client has to get, and the
live flow begins right behind that.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from freshet.errors import Disconnect, Refusal
from freshet.hub.subscribers import Joining
from freshet.model.events import Subscribed
from freshet.model.log import Position, Stream
from freshet.node.node import Node
from freshet.policy.base import Grant
from freshet.rules.filters import CompiledFilter
from freshet.rules.rules import ChannelRule
from freshet.session.session import Session
from freshet.session.subscription import Subscription


class Asked(NamedTuple):
    """What goes to the rule's hook, when it was the client that asked. data: JSON that it sent along."""

    parameters: Mapping[str, str]
    data: bytes = b""


class Entry:
    """A session between the two phases."""

    __slots__ = ("joining", "since", "stream", "subscription")

    def __init__(
        self, joining: Joining, subscription: Subscription, stream: Stream | None, since: Position | None
    ) -> None:
        self.joining = joining
        self.subscription = subscription
        self.stream = stream
        self.since = since

    @property
    def is_complete(self) -> bool:
        """Whether all that came after `since` can be replayed."""
        return self.stream is not None and (self.since is None or self.stream.follows(self.since))


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
    grant: Grant = Grant(),  # noqa: B008 - it is immutable
    asked: Asked | None = None,
    delta: bool = False,
    tag_filter: CompiledFilter | None = None,
) -> Entry:
    """Read what it missed. From here on, what is published is queued for the session until `settle`.

    Whether it may has been decided; asked: the rule's hook has its say too. delta: it can apply differences, if the
    rule has that. tag_filter: which publications it wants; None: all.

    Raises `Refusal`, and `Disconnect` when the session ended meanwhile.
    """
    _check_room(node, session, channel)
    if asked is not None and rule.on_subscribe is not None:
        await rule.on_subscribe(session, data=asked.data, **asked.parameters)
        _check_room(node, session, channel)  # somebody else may have subscribed it meanwhile
    subscription = session.subscriptions[channel] = Subscription(
        rule, grant.info, grant.expires, present=rule.presence and session.dialect.has_presence
    )
    try:
        joining = await node.hub.join(session, channel, rule, delta=delta and rule.delta, tag_filter=tag_filter)
    except BaseException:
        if session.subscriptions.get(channel) is subscription:
            del session.subscriptions[channel]
        raise
    try:
        stream = None
        if rule.history is not None:
            stream = await node.catch_up.read(channel, rule.history, since)
            await node.hub.catch_up(joining, stream.position)
        if subscription.present:
            await node.presence.enter(session, channel, subscription)
        if session.ended:
            raise Disconnect.normal()
        if session.subscriptions.get(channel) is not subscription:
            raise Refusal.permission_denied("the server ended the subscription")
    except BaseException:
        _abandon(node, session, joining, subscription)
        raise
    return Entry(joining, subscription, stream, since)


def _check_room(node: Node, session: Session, channel: str) -> None:
    if session.ended:
        raise Disconnect.normal()
    if channel in session.subscriptions:
        raise Refusal.already_subscribed()
    if len(session.subscriptions) >= node.config.limits.channels_per_client:
        raise Refusal.limit_exceeded(f"at most {node.config.limits.channels_per_client} channels per client")


async def enter_all(
    node: Node, session: Session, channels: Iterable[str], recover: Mapping[str, Position]
) -> list[Entry]:
    """Into all channels to which the server subscribes a client, or into none. Raises as `enter`."""
    entries: list[Entry] = []
    try:
        for channel in dict.fromkeys(channels):
            rule, _ = node.rules.find(channel)
            entries.append(await enter(node, session, channel, rule, recover.get(channel)))
    except BaseException:
        abandon_all(node, session, entries)
        raise
    return entries


def abandon_all(node: Node, session: Session, entries: Iterable[Entry]) -> None:
    for entry in entries:
        _abandon(node, session, entry.joining, entry.subscription)


def _abandon(node: Node, session: Session, joining: Joining, subscription: Subscription) -> None:
    node.hub.abandon(joining)
    if session.subscriptions.get(joining.channel) is subscription:
        del session.subscriptions[joining.channel]
    if subscription.present:
        node.tasks.start(node.presence.leave(session, joining.channel), "presence: leave")


def settle(node: Node, entry: Entry, id: int = 0, data: bytes = b"") -> Subscribed:
    """It is in. The caller pushes what this answers to the session before it gives the loop a turn."""
    stream, recovered = node.hub.settle(entry.joining, entry.stream, entry.since)
    entry.subscription.position = entry.since if entry.since and recovered else stream.position
    if entry.subscription.expires:
        node.wheel.schedule(entry.joining.session, 0)  # it learns when its next visit is due
    return Subscribed(
        channel=entry.joining.channel,
        id=id,
        position=stream.position,
        recoverable=entry.stream is not None,
        recovered=recovered,
        publications=stream.publications,
        ttl=ttl_of(entry.subscription.expires, node.clock.wall()),
        data=data,
        delta=entry.joining.delta,
    )
