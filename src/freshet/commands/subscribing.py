"""A session's way into a channel, in two phases, whoever asked for it.

`enter` may wait: for a hook, for the engine. `settle` does not: what it answers is what the client must be told, and
the live flow begins right behind that.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from freshet.endpoints.socketio import resume as recovery
from freshet.errors import Disconnect, Refusal
from freshet.hub.subscribers import Joining
from freshet.model.commands import Connect
from freshet.model.events import Subscribed
from freshet.model.log import Position, Stream
from freshet.node.node import Node
from freshet.policy import rights
from freshet.rules.filters import Wanted
from freshet.session.session import Session
from freshet.session.subscription import Subscription


class Grant(NamedTuple):
    """What the server gives to a subscription that it makes itself, without asking the rule or the hook.

    info: JSON that others in the channel see. expires: epoch seconds, or 0.
    """

    info: msgspec.Raw = msgspec.Raw()
    expires: float = 0.0


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


def ttl_of(expires: float, now: float) -> int | None:
    """Seconds that are left, as a client is told; None: it does not expire."""
    return max(1, int(expires - now)) if expires else None


async def enter(
    node: Node,
    session: Session,
    channel: str,
    since: Position | None = None,
    token: str = "",
    data: bytes = b"",
    *,
    grant: Grant | None = None,
    delta: bool = False,
    wanted: Wanted | None = None,
) -> Entry:
    """May it, and what did it miss? From here on, what is published waits for the session until `settle`.

    grant: the server subscribes it, so that it may. delta: it can be told differences, if the rule has that.
    wanted: what it wants to hear; None: all.

    Raises `Refusal`, and `Disconnect` when the session ended meanwhile.
    """
    if grant is not None:
        rule, parameters = rights.rule_of(node.rules, channel, node.limits)
    else:
        rule, parameters = rights.rule_for(node.rules, node.config, session, channel)
    if channel in session.subscriptions:
        raise Refusal.already_subscribed()
    if len(session.subscriptions) >= node.limits.channels_per_client:
        raise Refusal.limit_exceeded(f"at most {node.limits.channels_per_client} channels per client")
    info, expires = grant or rights.may_subscribe(rule, session, channel, token, node.tokens)
    if grant is None and rule.on_subscribe is not None:
        await rule.on_subscribe(session, data=data, **parameters)
    subscription = session.subscriptions[channel] = Subscription(
        rule, info, expires, present=rule.presence and session.dialect.is_seen
    )
    try:
        joining = await node.hub.join(session, channel, rule, delta=delta and rule.delta, wanted=wanted)
    except BaseException:
        del session.subscriptions[channel]
        raise
    try:
        stream = None
        if rule.history is not None:
            stream = await node.reading.read(channel, rule.history, since)
            await node.hub.reach(joining, stream.position)
        if subscription.present:
            await node.engine.set_presence(channel, session.id, session.client_info(info))
        if session.ended:
            raise Disconnect.normal()
        if session.subscriptions.get(channel) is not subscription:
            raise Refusal.permission_denied("the server ended the subscription")
    except BaseException:
        _abandon(node, session, joining, subscription)
        raise
    return Entry(joining, subscription, stream, since)


async def enter_all(
    node: Node, session: Session, channels: Iterable[str], recover: Mapping[str, Position]
) -> list[Entry]:
    """Into all channels to which the server subscribes a client, or into none. Raises as `enter`."""
    entries: list[Entry] = []
    try:
        for channel in dict.fromkeys(channels):
            entry = await enter(node, session, channel, recover.get(channel), grant=Grant())
            entries.append(entry)
    except BaseException:
        for entry in entries:
            _abandon(node, session, entry.joining, entry.subscription)
        raise
    return entries


async def resume(node: Node, session: Session, command: Connect, channels: Iterable[str]) -> list[Entry] | None:
    """Into all the rooms of the session that was cut off, as that session; None: that cannot be done without a loss.

    Rooms that a client may enter by itself are asked for again, by their rules and hooks.
    """
    namespace = node.namespace_of(session)
    if namespace is None or not namespace.recovery or not command.pid:
        return None
    state = await recovery.recall(node.engine, command.pid, namespace.recovery)
    if state is None or state.user != session.user:
        return None
    since, fresh = recovery.places(state, command.stamp), session.id
    node.claim(session, command.pid)
    session.id = state.sid
    entries: list[Entry] = []
    complete = True
    try:
        for channel in dict.fromkeys([*channels, *state.rooms]):
            rule, _ = rights.rule_of(node.rules, channel, node.limits)
            asked = channel not in channels and rule.subscribe == "client"
            entry = await enter(node, session, channel, since.get(channel), grant=None if asked else Grant())
            entries.append(entry)
            complete = complete and entry.stream is not None
            complete = complete and (entry.since is None or entry.stream.follows(entry.since))  # type: ignore[union-attr]
    except Refusal:
        complete = False
    if complete:
        return entries
    for entry in entries:
        _abandon(node, session, entry.joining, entry.subscription)
    node.forget(session)
    session.id = fresh
    return None


def _abandon(node: Node, session: Session, joining: Joining, subscription: Subscription) -> None:
    node.hub.abandon(joining)
    if session.subscriptions.get(joining.channel) is subscription:
        del session.subscriptions[joining.channel]
    if subscription.present:
        node.spawn(node.engine.set_presence(joining.channel, session.id, None))


def settle(node: Node, entry: Entry, id: int = 0, data: bytes = b"") -> Subscribed:
    """It is in. The caller tells the session what this answers before it gives the loop a turn."""
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
        ttl=ttl_of(entry.subscription.expires, node.now()),
        data=data,
        delta=entry.joining.delta,
    )
