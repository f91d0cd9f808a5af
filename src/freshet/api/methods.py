"""The methods of the server API for channels and clients: what each does, in one table."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from freshet.api.requests import (
    REASON,
    BroadcastRequest,
    ChannelRequest,
    ChannelsRequest,
    Content,
    DisconnectRequest,
    EmptyRequest,
    HistoryRequest,
    MethodRequest,
    PublishRequest,
    RefreshRequest,
    RevokeRequest,
    RpcRequest,
    SubscribeRequest,
    UnsubscribeRequest,
    json_given,
    on_one_line,
)
from freshet.api.results import (
    BroadcastResult,
    ChannelsResult,
    ClientItem,
    Empty,
    HistoryItem,
    HistoryResult,
    InfoResult,
    Listened,
    NodeInfo,
    PresenceResult,
    PresenceStatsResult,
    PublishReply,
    PublishResult,
    RpcResult,
    failure,
)
from freshet.commands.server import Prepared, ServerOperations
from freshet.errors import Disconnect, EngineUnavailable, Refusal
from freshet.model.log import Kind, Position, Publication, Stream
from freshet.policy.base import Grant
from freshet.rules.hooks import to_json


async def publish(server: ServerOperations, it: PublishRequest) -> PublishResult:
    return await _publish(server, it.channel, it, it.payload())


async def _publish(server: ServerOperations, channel: str, it: Content, payload: tuple[bytes, Kind]) -> PublishResult:
    position = await server.publish(channel, payload, it.tags, it.idempotency_key or None, it.skip_history)
    return PublishResult(position.offset, position.epoch)


async def publish_each(
    server: ServerOperations, requests: Iterable[PublishRequest]
) -> list[PublishResult | BaseException]:
    """As `publish` of each, none of which waits for another: its result, or what that raises."""
    prepared: list[Prepared | Exception] = []
    for it in requests:
        try:
            key = it.idempotency_key or None
            prepared.append(await server.prepare(it.channel, it.payload(), it.tags, key, it.skip_history))
        except Exception as why:
            prepared.append(why)
    outcomes = await server.publish_each(prepared)
    return [PublishResult(it.offset, it.epoch) if isinstance(it, Position) else it for it in outcomes]


async def broadcast(server: ServerOperations, it: BroadcastRequest) -> BroadcastResult:
    """Where it cannot be published, the others get it all the same."""
    payload = it.payload()
    replies = []
    for channel in it.channels:
        try:
            replies.append(PublishReply(result=await _publish(server, channel, it, payload)))
        except (Refusal, EngineUnavailable) as why:
            replies.append(PublishReply(error=failure(why)))
    return BroadcastResult(replies)


async def history(server: ServerOperations, it: HistoryRequest) -> HistoryResult:
    since = it.since.position() if it.since else None
    stream = await server.history(it.channel, since, max(it.limit, -1), it.reverse)
    if since is not None and not stream.reaches(since, it.limit, it.reverse):
        raise Refusal.unrecoverable_position()
    return _page(stream)


def _page(stream: Stream) -> HistoryResult:
    return HistoryResult([_item(each) for each in stream.publications], stream.position.offset, stream.position.epoch)


def _item(it: Publication) -> HistoryItem:
    data, encoded = Raw(it.data), ""
    if it.kind is Kind.TEXT:
        data = Raw(to_json(it.data.decode()))
    elif it.kind is Kind.BYTES:
        data, encoded = Raw(b"null"), msgspec.to_builtins(it.data)
    return HistoryItem(data, it.offset, it.tags, ClientItem.of(it.info) if it.info else None, encoded)


async def history_remove(server: ServerOperations, it: ChannelRequest) -> Empty:
    await server.remove_history(it.channel)
    return Empty()


async def presence(server: ServerOperations, it: ChannelRequest) -> PresenceResult:
    clients = await server.presence(it.channel)
    return PresenceResult({id: ClientItem.of(info) for id, info in clients.items()})


async def presence_stats(server: ServerOperations, it: ChannelRequest) -> PresenceStatsResult:
    clients = await server.presence(it.channel)
    return PresenceStatsResult(len(clients), len({info.user for info in clients.values()}))


async def channels(server: ServerOperations, it: ChannelsRequest) -> ChannelsResult:
    found = await server.channels(it.pattern)
    return ChannelsResult({name: Listened(count) for name, count in found.items()})


async def subscribe(server: ServerOperations, it: SubscribeRequest) -> Empty:
    since = it.recover_since.position() if it.recover_since else None
    grant = Grant(Raw(json_given("b64info", it.b64info, it.info)), float(it.expire_at))
    data = json_given("b64data", it.b64data, it.data)
    if it.override:
        server.check_override(it.channel, it.override.wanted())
    await server.subscribe(it.user, it.channel, it.client, since, grant, data, it.session)
    return Empty()


async def unsubscribe(server: ServerOperations, it: UnsubscribeRequest) -> Empty:
    await server.unsubscribe(it.user, it.channel, it.client, it.session)
    return Empty()


async def disconnect(server: ServerOperations, it: DisconnectRequest) -> Empty:
    why, default = None, Disconnect.force_no_reconnect()
    if it.disconnect and (it.disconnect.code or it.disconnect.reason):
        why = Disconnect(it.disconnect.code or default.code, it.disconnect.reason or default.reason)
    if why is not None and len(why.reason.encode()) > REASON:
        raise Refusal.bad_request(f"disconnect.reason: at most {REASON} bytes")
    await server.disconnect(it.user, why, it.client, it.whitelist, it.session, it.block)
    return Empty()


async def revoke(server: ServerOperations, it: RevokeRequest) -> Empty:
    await server.revoke(it.user, it.token, it.issued_before or None, it.expire_at or None)
    return Empty()


async def refresh(server: ServerOperations, it: RefreshRequest) -> Empty:
    if it.expired:
        await server.disconnect(it.user, Disconnect.expired(), it.client, (), it.session)
    else:
        await server.refresh(it.user, float(it.expire_at), it.client, it.session)
    return Empty()


async def rpc(server: ServerOperations, it: RpcRequest) -> RpcResult:
    return RpcResult(Raw(await server.call(it.method, on_one_line(it.data))))


async def info(server: ServerOperations, it: EmptyRequest) -> InfoResult:
    return InfoResult([NodeInfo.of(holding) for holding in await server.holdings()])


class Method(NamedTuple):
    """One method of the API. summary: one line for people."""

    request: type[MethodRequest]
    result: type[Struct]
    run: Callable[[ServerOperations, Any], Awaitable[Struct]]
    summary: str


CHANNEL_METHODS: dict[str, Method] = {
    "publish": Method(PublishRequest, PublishResult, publish, "Publish in one channel."),
    "broadcast": Method(BroadcastRequest, BroadcastResult, broadcast, "Publish the same in many channels."),
    "history": Method(HistoryRequest, HistoryResult, history, "A part of a channel's log."),
    "history_remove": Method(ChannelRequest, Empty, history_remove, "Forget a channel's publications."),
    "presence": Method(ChannelRequest, PresenceResult, presence, "Who is in a channel."),
    "presence_stats": Method(ChannelRequest, PresenceStatsResult, presence_stats, "How many are in a channel."),
    "channels": Method(ChannelsRequest, ChannelsResult, channels, "The channels that have subscribers."),
    "subscribe": Method(SubscribeRequest, Empty, subscribe, "Subscribe a user's clients."),
    "unsubscribe": Method(UnsubscribeRequest, Empty, unsubscribe, "End a subscription of a user's clients."),
    "disconnect": Method(DisconnectRequest, Empty, disconnect, "Disconnect a user's clients."),
    "revoke": Method(RevokeRequest, Empty, revoke, "Take back a token, all tokens of a user, or all that are older."),
    "refresh": Method(RefreshRequest, Empty, refresh, "Change when the connections of a user's clients expire."),
    "rpc": Method(RpcRequest, RpcResult, rpc, "Call a function of the application."),
    "info": Method(EmptyRequest, InfoResult, info, "What each node holds, the one that answers first."),
}
