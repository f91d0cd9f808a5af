"""What the methods of the server API answer: the shapes of Centrifugo's, which `openapi.py` describes."""

from importlib.metadata import version
from typing import Annotated, Any, Self

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from freshet.commands.cluster import Holding
from freshet.errors import EngineUnavailable, Refusal, TooLargeForEngine
from freshet.model.log import ClientInfo

VERSION = version("freshet")


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


def failure(why: Refusal | EngineUnavailable) -> Failure:
    if isinstance(why, Refusal):
        return Failure(why.code, why.message)
    if isinstance(why, TooLargeForEngine):
        return failure(Refusal.limit_exceeded(str(why)))
    return Failure(100, f"the engine cannot be reached: {why}")
