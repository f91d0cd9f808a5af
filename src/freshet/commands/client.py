"""One function per command: what happens when a client asks for it.

Each answers with the event that is the reply, or raises `Refusal`, which becomes the reply, or `Disconnect`, which ends
the session: see `dispatch`. Whether it may has been decided by the policies; what they found out is in the context.
"""

import logging
from collections.abc import Iterable

import msgspec

from freshet.commands.subscribing import Asked, Entry, enter, enter_all, settle, settle_all, settle_mapped, ttl_of
from freshet.errors import Disconnect, Refusal
from freshet.model.commands import (
    AskRoom,
    Call,
    Connect,
    Declined,
    Ping,
    ReadHistory,
    ReadPresence,
    ReadPresenceStats,
    Refresh,
    RefreshSubscription,
    Send,
    Subscribe,
    Unsubscribe,
)
from freshet.model.events import (
    Alive,
    Answer,
    Connected,
    Event,
    HistoryPage,
    PresenceList,
    PresenceStats,
    Refreshed,
    Subscribed,
    SubscriptionRefreshed,
    Unsubscription,
)
from freshet.model.log import NOWHERE, History, Position, Stream
from freshet.node.node import Node
from freshet.node.who import PresentNow
from freshet.observe.counts import add
from freshet.observe.logs import BoundedLog
from freshet.policy.authentication import why_nobody
from freshet.policy.base import Context
from freshet.policy.claims import ConnectionClaims
from freshet.rules.filters import CompiledFilter
from freshet.rules.hooks import Hook, Welcome, to_json
from freshet.rules.rules import ChannelRule, personal_channel
from freshet.runtime.tasks import in_task
from freshet.session.session import Session
from freshet.session.subscription import Subscription

PORTION = 100  # publications that are read from the engine at once: how large they are is seen only then

_log = BoundedLog(logging.getLogger("freshet.limits"))


def _session(context: Context) -> Session:
    assert context.session is not None  # these are clients' commands
    return context.session


def _rule(context: Context) -> ChannelRule:
    assert context.rule is not None  # the dispatcher found it for a command in a channel
    return context.rule


# ------------------------------------------------------------------------------------------------------ the connection


async def connect(node: Node, context: Context, command: Connect) -> Connected:
    session = _session(context)
    welcome = await admit(node, context, command, node.hooks.connect)
    channels = server_side(node, context, welcome)
    if command.only:
        channels = [channel for channel in channels if channel in command.only]
    entries = await enter_all(node, session, channels, command.recover)
    answer = connected(node, session, command.id, welcome, entries)
    # Who shows no token of its own cannot show a newer one: it is to reconnect then, and not to give up.
    return msgspec.structs.replace(answer, ttl=None) if context.carried else answer


async def admit(node: Node, context: Context, command: Connect, hook: Hook | None) -> Welcome:
    """Who it is, by its token and by what the hook says.

    Raises `Disconnect` when nobody says so or the session ended meanwhile, and `Refusal`.
    """
    session = _session(context)
    if session.connected:
        raise Disconnect.bad_request("already connected")
    node.registry.begun(session)
    claims = context.claims
    if claims is not None:
        _identify(session, claims)
    returned = None
    if hook is not None:
        returned = await node.invoking.invoke(hook, session, session, data=command.data, request=session.handshake)
    welcome = returned if isinstance(returned, Welcome) else Welcome()
    if claims is None and welcome.user is None and not node.config.tokens.anonymous:
        raise Disconnect.invalid_token(why_nobody(node.tokens))
    if session.closing:
        raise Disconnect.normal()
    session.user = session.user if welcome.user is None else welcome.user
    if node.revoking.known.blocked(session.user):
        raise Disconnect(Disconnect.force_no_reconnect().code, "blocked")
    _check_sessions(node, session)
    session.info = session.info if welcome.info is None else msgspec.Raw(to_json(welcome.info))
    session.expires = session.expires if welcome.expires is None else welcome.expires
    return welcome


def _check_sessions(node: Node, session: Session) -> None:
    most = node.config.limits.sessions_per_user
    if session.user and most and len(node.registry.of(session.user)) >= most:
        _log.warning(
            "sessions",
            "%r was refused: %d clients of its user are connected already, see limits.sessions_per_user",
            session,
            most,
        )
        raise Disconnect.connection_limit()


def _identify(session: Session, claims: ConnectionClaims) -> None:
    session.user, session.info, session.caps = claims.user, claims.info, claims.caps
    session.token_claims, session.expires = claims.claims, claims.expires_at or 0.0


def server_side(node: Node, context: Context, welcome: Welcome) -> list[str]:
    """The channels to which the server subscribes a client as it connects."""
    session = _session(context)
    channels = [*(context.claims.channels if context.claims else ()), *welcome.channels]
    if node.config.personal_channels and session.user:
        channels.append(personal_channel(session.user))
    return channels


def connected(node: Node, session: Session, id: int, welcome: Welcome, entries: Iterable[Entry]) -> Connected:
    """It is in, with all channels of `entries`. The caller pushes the answer before it gives the loop a turn."""
    early = [_early(node, channel, it) for channel, it in session.subscriptions.items()]
    session.enter()
    node.registry.connected(session)
    add(node.counts.connected, session.way)
    return Connected(
        id=id,
        client=session.id,
        ping=max(1, round(node.config.timing.ping_interval)),
        # Where the application is asked, the client need not show a new token.
        ttl=ttl_of(session.expires, node.clock.wall()) if node.hooks.refresh is None else None,
        data=b"" if welcome.data is None else to_json(welcome.data),
        subscriptions=early + settle_all(node, entries),
        session=session.post,
        node=node.id if session.post else "",
    )


def _early(node: Node, channel: str, subscription: Subscription) -> Subscribed:
    """Its hook has subscribed it: it learns of that once it is connected."""
    ttl = ttl_of(subscription.expires, node.clock.wall())
    return Subscribed(channel, 0, subscription.position, subscription.rule.history is not None, ttl=ttl)


async def refresh(node: Node, context: Context, command: Refresh) -> Refreshed:
    session, claims = _session(context), context.claims
    # The hook may have given the session another user than its token has.
    if claims is None or claims.user != session.claims.get("sub", session.user):
        raise Disconnect.invalid_token()
    session.expires = claims.expires_at or 0.0
    session.token_claims, session.caps = claims.claims, claims.caps
    return Refreshed(command.id, session.id, ttl_of(session.expires, node.clock.wall()))


async def decline(node: Node, context: Context, command: Declined) -> None:
    raise command.why


async def ping(node: Node, context: Context, command: Ping) -> Alive:
    return Alive(command.id)


# -------------------------------------------------------------------------------------------------------- subscriptions


async def subscribe(node: Node, context: Context, command: Subscribe) -> Event | None:
    session, rule = _session(context), _rule(context)
    if command.entries is not None and rule.state is None:
        raise Refusal.not_available(f"map: not available, the rule of {command.channel!r} has no option `state`")
    pages_alone = command.entries is not None and rule.history is None and command.entries.limit != 0
    asked = Asked(context.parameters, command.data, command.delta, _compiled(command), command.entries)
    since = None if pages_alone else command.recover
    entry = await enter(node, session, command.channel, rule, since, grant=context.grant, asked=asked)
    if command.entries is not None:
        subscribed = settle_mapped(node, entry, command.id, command.entries)
    else:
        subscribed = settle(node, entry, command.id)
    if (command.or_refuse or command.entries is not None) and subscribed.recovered is False:
        await node.leaving.unsubscribe(session, command.channel, None)
        raise Refusal.unrecoverable_position()
    return subscribed


def _compiled(command: Subscribe) -> CompiledFilter | None:
    if command.filter is None:
        return None
    if command.delta:
        raise Refusal.bad_request("a filter and delta: differences are to publications that a filter may leave out")
    try:
        return CompiledFilter(command.filter)
    except ValueError as error:
        raise Refusal.bad_request(f"filter: {error}") from None


async def unsubscribe(node: Node, context: Context, command: Unsubscribe) -> Unsubscription:
    _session(context).may_return = False
    await node.leaving.unsubscribe(_session(context), command.channel, None)
    return Unsubscription(command.id)


async def refresh_subscription(node: Node, context: Context, command: RefreshSubscription) -> SubscriptionRefreshed:
    subscription = _session(context).subscriptions.get(command.channel)
    if subscription is None:
        raise Refusal.permission_denied("not subscribed")
    subscription.expires, subscription.issued = context.grant.expires, context.grant.issued
    return SubscriptionRefreshed(command.id, ttl_of(subscription.expires, node.clock.wall()))


# ------------------------------------------------------------------------------------------------------------- channels

# Each reply is bounded, whatever the channel holds: a client that asks again and again, and does not read the replies,
# would otherwise have them all in the server's memory.


async def read_history(node: Node, context: Context, command: ReadHistory) -> HistoryPage:
    """At most a page. A client that has it goes on behind its last publication, as long as that is not the log's."""
    keep, since = _rule(context).history, command.since
    if keep is None:
        raise Refusal.not_available(f"{command.channel!r} keeps no history")
    stream = await _page(node, keep, command)
    if since is not None and not stream.reaches(since, command.limit, command.reverse):
        raise Refusal.unrecoverable_position()
    return HistoryPage(command.id, stream)


async def _page(node: Node, keep: History, command: ReadHistory) -> Stream:
    """As much of what is asked for as a page may have, at least one publication."""
    limits, reverse, step = node.config.limits, command.reverse, -1 if command.reverse else 1
    left = limits.history_page if command.limit < 0 else min(command.limit, limits.history_page)
    room, page, since = limits.page_size, Stream([], NOWHERE), command.since
    while True:
        portion = await node.engine.history(command.channel, keep, since, min(left, PORTION), reverse)
        read = portion.publications
        if page.publications and (not read or read[0].offset != page.publications[-1].offset + step):
            return page  # what follows is gone meanwhile
        page = Stream(page.publications, portion.position)
        for publication in read:
            room -= publication.size
            if room < 0 and page.publications:
                return page
            page.publications.append(publication)
        left -= len(read)
        if len(read) < PORTION or not left:
            return page
        since = Position(portion.position.epoch, read[-1].offset)


async def _present(node: Node, context: Context, channel: str) -> PresentNow:
    if not _rule(context).presence:
        raise Refusal.not_available(f"{channel!r} has no presence")
    return await node.who.read(channel)


async def read_presence(node: Node, context: Context, command: ReadPresence) -> PresenceList:
    present = await _present(node, context, command.channel)
    if present.size > node.config.limits.page_size:
        raise Refusal.limit_exceeded(
            f"{len(present.clients)} clients are present, too many for a list: ask for their number (presence_stats), "
            "or see limits.page_size"
        )
    return PresenceList(command.id, present.clients, present.encoded)


async def read_presence_stats(node: Node, context: Context, command: ReadPresenceStats) -> PresenceStats:
    present = await _present(node, context, command.channel)
    return PresenceStats(command.id, len(present.clients), present.users)


# ------------------------------------------------------------------------------------------------ the user's functions


async def call(node: Node, context: Context, command: Call) -> Answer:
    session, hook = _session(context), node.hooks.method(command.method)
    if hook is None and (any_rpc := node.hooks.any_rpc) is not None:
        answer = await node.invoking.invoke(any_rpc, session, session, command.method, command.data)
        return Answer(command.id, to_json(answer))
    if hook is None and not node.hooks.rpc:
        raise Refusal.not_available("there are no methods to call")
    if hook is None:
        raise Refusal.method_not_found(f"no method {command.method!r}")
    return Answer(command.id, to_json(await node.invoking.invoke(hook, session, session, command.data)))


async def ask_room(node: Node, context: Context, command: AskRoom) -> Answer:
    door = node.doors.get(_rule(context).owner)
    if door is None:
        raise Refusal.method_not_found(f"{command.channel!r} is no room")
    await in_task()
    return Answer(command.id, await door.request(_session(context), command.channel, command.request))


async def send(node: Node, context: Context, command: Send) -> None:
    if node.hooks.message is None:
        raise Disconnect.not_available("nobody takes messages here")
    session = _session(context)
    await node.invoking.invoke(node.hooks.message, session, session, command.data)
