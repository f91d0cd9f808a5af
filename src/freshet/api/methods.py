"""The methods of the server API: what each takes, what it answers, and what it does.

The shapes are those of Centrifugo's server API, which the PyPI package `cent` and its like in other languages send.
`http.py` reads requests by these types, and `openapi.py` describes them by the same.
"""

from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterable
from importlib.metadata import version
from typing import Annotated, Any, NamedTuple, Self

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from freshet.commands.cluster import Holding
from freshet.commands.server import Prepared, ServerOperations
from freshet.dialects.base import kind_of
from freshet.errors import Disconnect, EngineUnavailable, Refusal, TooLargeForEngine
from freshet.model.json_text import one_line
from freshet.model.log import ClientInfo, Kind, Position, Publication, Stream
from freshet.policy.base import Grant
from freshet.rules.hooks import to_json

VERSION = version("freshet")
REASON = 123  # bytes that fit into a WebSocket close frame

Channel = Annotated[str, Meta(min_length=1, description="A channel's name.", examples=["news"])]
User = Annotated[str, Meta(description="A user's id, the `sub` of its token.", examples=["alice"])]
Client = Annotated[str, Meta(description="Only the client with this id; empty: all clients of the user.")]
Post = Annotated[str, Meta(description="Only the client that has this `session`, as clients of HTTP streams have one.")]


class MethodRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a method takes. Nothing that a caller asks for is passed over: an unknown field is refused."""


class Since(MethodRequest):
    """A place in a channel's log."""

    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    epoch: str = ""

    def position(self) -> Position:
        return Position(self.epoch, self.offset)


class Content(MethodRequest):
    """What is published: `data` or `b64data`."""

    data: Annotated[Raw | UnsetType, Meta(description="What clients get: any JSON.", examples=["hello"])] = UNSET
    b64data: Annotated[str, Meta(description="Instead of `data`: bytes, in base64.")] = ""
    tags: Annotated[dict[str, str], Meta(description="Short labels that go with it.")] = {}
    idempotency_key: Annotated[
        str, Meta(description="A second publication with the same key within 5 minutes is not made.")
    ] = ""
    skip_history: Annotated[
        bool, Meta(description="It goes to those who are subscribed now, and not into the log.")
    ] = False
    delta: Annotated[bool, Meta(description="Taken for compatibility; it changes nothing.")] = False

    def payload(self) -> tuple[bytes, Kind]:
        if self.b64data:
            return _from_base64(self.b64data), Kind.BYTES
        if self.data is UNSET:
            raise Refusal.bad_request("data: expected any JSON, or b64data")
        return _on_one_line(self.data), Kind.JSON


class PublishRequest(Content, kw_only=True):
    channel: Channel


class BroadcastRequest(Content, kw_only=True):
    channels: Annotated[list[Channel], Meta(min_length=1, description="Where the same is published.")]


class ChannelRequest(MethodRequest):
    channel: Channel


class HistoryRequest(MethodRequest):
    channel: Channel
    limit: Annotated[int, Meta(description="At most so many; 0: the position alone; below 0: all.")] = 0
    since: Annotated[Since | None, Meta(description="Only what came after (before, when `reverse`).")] = None
    reverse: Annotated[bool, Meta(description="The newest first.")] = False


class ChannelsRequest(MethodRequest):
    pattern: Annotated[str, Meta(description="`*` stands for anything, `?` for one character.")] = ""


class BoolValue(MethodRequest):
    value: bool = False


class Override(MethodRequest):
    """Options of the channel that the caller relies on: refused where the channel's rule says otherwise."""

    presence: BoolValue | None = None
    join_leave: BoolValue | None = None
    force_push_join_leave: BoolValue | None = None
    force_positioning: BoolValue | None = None
    force_recovery: BoolValue | None = None

    def wanted(self) -> dict[str, bool]:
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: each.value for name, each in fields.items() if each is not None}


class SubscribeRequest(MethodRequest):
    user: User
    channel: Channel
    client: Client = ""
    session: Post = ""
    info: Annotated[Raw | UnsetType, Meta(description="JSON that others in the channel see.")] = UNSET
    data: Annotated[Raw | UnsetType, Meta(description="JSON that the client gets with the subscription.")] = UNSET
    expire_at: Annotated[int, Meta(ge=0, le=2**53, description="Unix time at which it ends; 0: never.")] = 0
    recover_since: Annotated[Since | None, Meta(description="The client gets what came after.")] = None
    b64info: Annotated[str, Meta(description="Instead of `info`: the JSON, in base64.")] = ""
    b64data: Annotated[str, Meta(description="Instead of `data`: the JSON, in base64.")] = ""
    override: Annotated[Override | None, Meta(description="Refused where it is not as the channel's rule says.")] = None


class UnsubscribeRequest(MethodRequest):
    user: User
    channel: Channel
    client: Client = ""
    session: Post = ""


class Goodbye(MethodRequest):
    code: Annotated[int, Meta(ge=0, le=4999, description="3500-3999 and 4500-4999: not to reconnect; 0: 3503.")] = 0
    reason: Annotated[str, Meta(max_length=REASON, description="At most 123 bytes.")] = ""

    def __post_init__(self) -> None:
        if 0 < self.code < 3000:
            raise ValueError("code: expected 3000 to 4999, or 0")


class DisconnectRequest(MethodRequest):
    user: User
    client: Client = ""
    session: Post = ""
    whitelist: Annotated[list[str], Meta(description="Clients, by id, that may stay.")] = []
    block: Annotated[float, Meta(ge=0, le=2**32, description="For so many seconds the user cannot connect.")] = 0
    disconnect: Annotated[Goodbye | None, Meta(description="The code and reason for the client; otherwise 3503.")] = (
        None
    )


class RevokeRequest(MethodRequest):
    user: Annotated[str, Meta(description="All tokens of this user, the `sub` of them.", examples=["alice"])] = ""
    token: Annotated[str, Meta(description="Instead: the one token with this id, its `jti`.")] = ""
    issued_before: Annotated[
        float, Meta(ge=0, le=2**53, description="Those that were issued (`iat`) until then, Unix time; 0: now.")
    ] = 0
    expire_at: Annotated[float, Meta(ge=0, le=2**53, description="Unix time until which it holds; 0: for good.")] = 0


class RefreshRequest(MethodRequest):
    user: User
    client: Client = ""
    session: Post = ""
    expired: Annotated[bool, Meta(description="The clients' connections expire now.")] = False
    expire_at: Annotated[int, Meta(ge=0, le=2**53, description="Unix time at which they expire; 0: never.")] = 0


class RpcRequest(MethodRequest):
    method: Annotated[str, Meta(min_length=1, description="A function registered with `live.api_rpc`.")]
    data: Annotated[Raw | UnsetType, Meta(description="What it is given, any JSON.")] = UNSET


class EmptyRequest(MethodRequest):
    pass


class BatchRequest(MethodRequest):
    commands: Annotated[
        list[dict[str, Raw]],
        Meta(description="Each an object of one method's name and its request.", examples=[[{"info": {}}]]),
    ]
    parallel: Annotated[bool, Meta(description="They need not run one after the other.")] = False


# --------------------------------------------------------------------------------------------------------- what it says


class Empty(Struct):
    pass


class Failure(Struct):
    """Why it was not done. The codes are those that clients see."""

    code: Annotated[int, Meta(description="100-112, or what a function of the application raised.", examples=[102])]
    message: Annotated[str, Meta(description="For people: what was wrong, where, and what is allowed.")]


Offset = Annotated[int, Meta(description="The number of the last publication in the channel's log.", examples=[7])]
Epoch = Annotated[str, Meta(description="Which log it is: another one when the former was lost.", examples=["xKq2"])]
Count = Annotated[int, Meta(ge=0)]


class PublishResult(Struct):
    """Where in the channel's log it is; offset 0 when it was not kept."""

    offset: Offset
    epoch: Epoch


class PublishReply(Struct, omit_defaults=True):
    """What became of one publication: `result`, or `error`."""

    result: PublishResult | UnsetType = UNSET
    error: Failure | UnsetType = UNSET


class BroadcastResult(Struct):
    responses: Annotated[list[PublishReply], Meta(description="One for each of `channels`, in that order.")]


class ClientItem(Struct, omit_defaults=True):
    """Who a client is, as others in the channel see it."""

    user: Annotated[str, Meta(description="Its user's id; empty: nobody that is known.")]
    client: Annotated[str, Meta(description="Its id.")]
    conn_info: Annotated[Raw | UnsetType, Meta(description="JSON about it, from its token.")] = UNSET
    chan_info: Annotated[Raw | UnsetType, Meta(description="JSON about it in this channel.")] = UNSET

    @classmethod
    def of(cls, it: ClientInfo) -> Self:
        return cls(it.user, it.client, it.conn_info or UNSET, it.chan_info or UNSET)


class HistoryItem(Struct, omit_defaults=True):
    data: Annotated[Raw, Meta(description="What was published, any JSON; null when it was bytes.")]
    offset: Annotated[int, Meta(description="Its number in the channel's log.")] = 0
    tags: Annotated[dict[str, str] | None, Meta(description="Short labels that go with it.")] = None
    info: Annotated[ClientItem | None, Meta(description="Who published it, if a client did.")] = None
    b64data: Annotated[str, Meta(description="What was published, in base64, when it was bytes.")] = ""


class HistoryResult(Struct):
    publications: Annotated[list[HistoryItem], Meta(description="In the order that was asked for.")]
    offset: Offset
    epoch: Epoch


class PresenceResult(Struct):
    presence: Annotated[dict[str, ClientItem], Meta(description="By client id.")]


class PresenceStatsResult(Struct):
    num_clients: Annotated[Count, Meta(description="Clients in the channel.")]
    num_users: Annotated[Count, Meta(description="Users that they belong to.")]


class Listened(Struct):
    num_clients: Annotated[Count, Meta(description="Clients that are subscribed.")]


class ChannelsResult(Struct):
    channels: Annotated[dict[str, Listened], Meta(description="By name.")]


class NodeInfo(Struct):
    """What one process of the server holds."""

    uid: Annotated[str, Meta(description="Its id, another one after each start.")]
    name: str
    version: Annotated[str, Meta(description="Freshet's.")]
    num_clients: Count
    num_users: Count
    num_subs: Annotated[Count, Meta(description="Subscriptions of all clients.")]
    num_channels: Annotated[Count, Meta(description="Channels that have a subscriber.")]
    uptime: Annotated[Count, Meta(description="Seconds since it started.")]

    @classmethod
    def of(cls, it: Holding) -> Self:
        return cls(
            uid=it.node,
            name="freshet",
            version=VERSION,
            num_clients=it.statistics.clients,
            num_users=it.statistics.users,
            num_subs=it.statistics.subscriptions,
            num_channels=it.statistics.channels,
            uptime=int(it.uptime),
        )


class InfoResult(Struct):
    nodes: list[NodeInfo]


class RpcResult(Struct):
    data: Annotated[Raw, Meta(description="What the function returned, any JSON.")]


class BatchResult(Struct):
    """Each reply is an object of the method's name and its result, or of `error`."""

    replies: Annotated[list[dict[str, Any]], Meta(description="One for each of `commands`, in that order.")]


# --------------------------------------------------------------------------------------------------------- what it does


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
    grant = Grant(Raw(_either("b64info", it.b64info, it.info)), float(it.expire_at))
    data = _either("b64data", it.b64data, it.data)
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
    return RpcResult(Raw(await server.call(it.method, _on_one_line(it.data))))


async def info(server: ServerOperations, it: EmptyRequest) -> InfoResult:
    return InfoResult([NodeInfo.of(holding) for holding in await server.holdings()])


def failure(why: Refusal | EngineUnavailable) -> Failure:
    if isinstance(why, Refusal):
        return Failure(why.code, why.message)
    if isinstance(why, TooLargeForEngine):
        return failure(Refusal.limit_exceeded(str(why)))
    return Failure(100, f"the engine cannot be reached: {why}")


def _on_one_line(data: Raw | UnsetType) -> bytes:
    """JSON goes to clients on one line; what was not given is empty."""
    return b"" if data is UNSET else one_line(bytes(data))


def _either(name: str, encoded: str, data: Raw | UnsetType) -> bytes:
    """JSON on one line: what was given in base64, under that name, or as it is."""
    if not encoded:
        return _on_one_line(data)
    kind, decoded = kind_of(_from_base64(encoded, name))
    if kind is not Kind.JSON:
        raise Refusal.bad_request(f"{name}: expected JSON, which clients of JSON are to get, in base64")
    return decoded


def _from_base64(text: str, name: str = "b64data") -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise Refusal.bad_request(f"{name}: expected base64") from None


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
"""Those for channels and clients."""
