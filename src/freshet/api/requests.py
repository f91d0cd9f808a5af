"""What the methods of the server API take, and how that is read further than by its types.

The shapes are those of Centrifugo's server API, which the PyPI package `cent` and its like in other languages send.
`http.py` reads requests by these types, and `openapi.py` describes them by the same.
"""

from base64 import b64decode
from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from freshet.dialects.base import kind_of
from freshet.errors import Refusal
from freshet.model.json_text import one_line
from freshet.model.log import Kind, Position

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
        return on_one_line(self.data), Kind.JSON


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


def on_one_line(data: Raw | UnsetType) -> bytes:
    """JSON goes to clients on one line; what was not given is empty."""
    return b"" if data is UNSET else one_line(bytes(data))


def json_given(name: str, encoded: str, data: Raw | UnsetType) -> bytes:
    """JSON on one line: what was given in base64, under that name, or as it is."""
    if not encoded:
        return on_one_line(data)
    kind, decoded = kind_of(_from_base64(encoded, name))
    if kind is not Kind.JSON:
        raise Refusal.bad_request(f"{name}: expected JSON, which clients of JSON are to get, in base64")
    return decoded


def _from_base64(text: str, name: str = "b64data") -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise Refusal.bad_request(f"{name}: expected base64") from None
