"""One function per command: what happens when a client asks for it.

Each answers with the event that is the reply, or raises `Refusal`, which becomes the reply, or `Disconnect`, which ends
the session: see `dispatch`.
"""

import secrets

import msgspec

from freshet.commands import cluster as orders
from freshet.commands.subscribing import enter, enter_all, resume, settle, ttl_of
from freshet.endpoints.socketio.namespaces import Namespace
from freshet.errors import Disconnect, Refusal
from freshet.model.commands import (
    Call,
    Connect,
    Ping,
    Publish,
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
    Accepted,
    Alive,
    Answer,
    Connected,
    Event,
    HistoryPage,
    PresenceList,
    PresenceStats,
    Refreshed,
    SubscriptionRefreshed,
    Unsubscription,
)
from freshet.model.log import Kind, PublishOptions
from freshet.node.node import Node, Welcome
from freshet.policy import rights
from freshet.policy.tokens import ConnectionClaims
from freshet.rules.filters import Wanted
from freshet.rules.hooks import as_payload, to_json
from freshet.session.session import Session

# ------------------------------------------------------------------------------------------------------ the connection


async def connect(node: Node, session: Session, command: Connect) -> Connected:
    if session.connected:
        raise Disconnect.bad_request("already connected")
    namespace = node.namespace_of(session)
    claims, welcome = await _admit(node, session, command, namespace)
    if session.ended:
        raise Disconnect.normal()
    channels = [*(claims.channels if claims else ()), *welcome.channels]
    if node.config.personal_channels and session.user:
        channels.append(rights.personal_channel(session.user))
    if namespace is not None:
        channels.append(namespace.name)  # what is emitted to all of it
    if command.only:
        channels = [channel for channel in channels if channel in command.only]
    entries = await resume(node, session, command, channels)
    if entries is None:
        entries = await enter_all(node, session, channels, command.recover)
        if namespace is not None and namespace.recovery:
            node.claim(session, secrets.token_urlsafe(18))
    elif session.pid:
        node.spawn(orders.claim(node, session.pid))
    session.enter()
    node.hub.enter(session)
    if session.pid:
        node.spawn(node.remember(session))  # which begins behind this
    return Connected(
        id=command.id,
        client=session.id,
        ping=max(1, round(node.timing.ping_interval)),
        ttl=ttl_of(session.expires, node.now()),
        data=b"" if welcome.data is None else to_json(welcome.data),
        subscriptions=[settle(node, entry) for entry in entries],
        pid=session.pid,
        session=session.post,
        node=node.id if session.post else "",
    )


async def _admit(
    node: Node, session: Session, command: Connect, namespace: Namespace | None
) -> tuple[ConnectionClaims | None, Welcome]:
    """Who it is, by its token and by what the hook says. Raises `Disconnect` when nobody says so, and `Refusal`."""
    # What an application with its own check calls a token need not be one of ours.
    own = namespace is not None and namespace.connect is not None and node.tokens is None
    claims = None if own else rights.identify(command.token, node.tokens)
    if claims is not None:
        _identify(session, claims)
    returned = None
    if namespace is not None and namespace.connect is not None:
        returned = await namespace.connect(session, command.data, request=session.handshake)
    elif node.hooks.connect is not None:
        returned = await node.hooks.connect(session, data=command.data, request=session.handshake)
    welcome = returned if isinstance(returned, Welcome) else Welcome()
    if claims is None and welcome.user is None and not node.config.tokens.anonymous:
        raise Disconnect.invalid_token(rights.why_no_token(node.tokens))
    _identify(session, claims, welcome)
    return claims, welcome


def _identify(session: Session, claims: ConnectionClaims | None, welcome: Welcome | None = None) -> None:
    if claims is not None:
        session.user, session.info = claims.user, claims.info
        session.token_claims, session.expires = claims.claims, claims.expires_at or 0.0
    if welcome is not None:
        session.user = session.user if welcome.user is None else welcome.user
        session.info = session.info if welcome.info is None else msgspec.Raw(to_json(welcome.info))
        session.expires = session.expires if welcome.expires is None else welcome.expires


async def refresh(node: Node, session: Session, command: Refresh) -> Refreshed:
    claims = rights.identify(command.token, node.tokens)
    # The hook may have given the session another user than its token has.
    if claims is None or claims.user != session.claims.get("sub", session.user):
        raise Disconnect.invalid_token()
    session.expires = claims.expires_at or 0.0
    session.token_claims = claims.claims
    return Refreshed(command.id, session.id, ttl_of(session.expires, node.now()))


async def ping(node: Node, session: Session, command: Ping) -> Alive:
    return Alive(command.id)


# -------------------------------------------------------------------------------------------------------- subscriptions


async def subscribe(node: Node, session: Session, command: Subscribe) -> Event | None:
    entry = await enter(
        node,
        session,
        command.channel,
        command.recover,
        command.token,
        command.data,
        delta=command.delta,
        wanted=_wanted(command),
    )
    subscribed = settle(node, entry, command.id)
    if command.or_refuse and subscribed.recovered is False:
        await node.unsubscribe(session, command.channel, None)
        raise Refusal.unrecoverable_position()
    return subscribed


def _wanted(command: Subscribe) -> Wanted | None:
    if command.filter is None:
        return None
    if command.delta:
        raise Refusal.bad_request("a filter and delta: differences are to publications that a filter may leave out")
    try:
        return Wanted(command.filter)
    except ValueError as error:
        raise Refusal.bad_request(f"filter: {error}") from None


async def unsubscribe(node: Node, session: Session, command: Unsubscribe) -> Unsubscription:
    await node.unsubscribe(session, command.channel, None)
    return Unsubscription(command.id)


async def refresh_subscription(node: Node, session: Session, command: RefreshSubscription) -> SubscriptionRefreshed:
    subscription = session.subscriptions.get(command.channel)
    if subscription is None:
        raise Refusal.permission_denied("not subscribed")
    if node.tokens is None:
        raise Refusal.permission_denied()
    claims = node.tokens.subscription(command.token, command.channel, session.user)
    subscription.expires = claims.expires_at or 0.0
    return SubscriptionRefreshed(command.id, ttl_of(subscription.expires, node.now()))


# ------------------------------------------------------------------------------------------------------------- channels


async def publish(node: Node, session: Session, command: Publish) -> Accepted:
    rule, parameters = rights.rule_for(node.rules, node.config, session, command.channel)
    if len(command.data) > node.limits.message_size:
        raise Refusal.limit_exceeded(f"at most {node.limits.message_size} bytes of data")
    rights.may_publish(rule, session, command.channel)
    data, kind = command.data, command.kind
    if rule.on_publish is not None:
        given = data.decode() if kind is Kind.TEXT else memoryview(data) if kind is Kind.BYTES else data
        returned = await rule.on_publish(session, given, **parameters)
        if returned is not None:
            data, kind = as_payload(returned)
    info = session.client_info()
    position = await node.publish(command.channel, data, PublishOptions(kind=kind, history=rule.history, info=info))
    return Accepted(command.id, position)


async def read_history(node: Node, session: Session, command: ReadHistory) -> HistoryPage:
    rule, _ = rights.rule_for(node.rules, node.config, session, command.channel)
    rights.may_read(rule, session, command.channel)
    if rule.history is None:
        raise Refusal.not_available(f"{command.channel!r} keeps no history")
    since = command.since
    stream = await node.engine.history(command.channel, rule.history, since, command.limit, command.reverse)
    if since is not None and not stream.reaches(since, command.limit, command.reverse):
        raise Refusal.unrecoverable_position()
    return HistoryPage(command.id, stream)


async def read_presence(node: Node, session: Session, command: ReadPresence) -> PresenceList:
    _readable_presence(node, session, command.channel)
    return PresenceList(command.id, await node.engine.presence(command.channel))


async def read_presence_stats(node: Node, session: Session, command: ReadPresenceStats) -> PresenceStats:
    _readable_presence(node, session, command.channel)
    clients = await node.engine.presence(command.channel)
    return PresenceStats(command.id, len(clients), len({info.user for info in clients.values()}))


def _readable_presence(node: Node, session: Session, channel: str) -> None:
    rule, _ = rights.rule_for(node.rules, node.config, session, channel)
    rights.may_read(rule, session, channel)
    if not rule.presence:
        raise Refusal.not_available(f"{channel!r} has no presence")


# ------------------------------------------------------------------------------------------------ the user's functions


async def call(node: Node, session: Session, command: Call) -> Answer:
    if not node.hooks.rpc:
        raise Refusal.not_available("there are no methods to call")
    hook = node.hooks.rpc.get(command.method)
    if hook is None:
        raise Refusal.method_not_found(f"no method {command.method!r}")
    return Answer(command.id, to_json(await hook(session, command.data)))


async def send(node: Node, session: Session, command: Send) -> None:
    if node.hooks.message is None:
        raise Disconnect.not_available("nobody takes messages here")
    await node.hooks.message(session, command.data)
