"""The methods of the server API for a channel's state: its shapes are those of Centrifugo's methods for maps."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from freshet.api.methods import Method
from freshet.api.requests import Channel, ChannelRequest, MethodRequest
from freshet.api.results import Count, Empty
from freshet.commands.server import ServerOperations
from freshet.errors import Refusal
from freshet.model.entries import EntryChange, EntryResult
from freshet.model.json_text import decode, one_line

Key = Annotated[str, Meta(min_length=1, description="The entry's key.", examples=["title"])]
Once = Annotated[str, Meta(description="What comes again with the same key within 5 minutes is not done again.")]
Ttl = Annotated[
    Annotated[float, Meta(ge=0)] | None, Meta(description="Seconds after which it expires; default: the rule's.")
]
Expected = Annotated[
    Raw | UnsetType,
    Meta(description="Only if the entry has this value now; null: only if there is none.", examples=["hello"]),
]
PAGE = 1000


class MapPublishRequest(MethodRequest, kw_only=True):
    channel: Channel
    key: Key
    data: Annotated[Raw, Meta(description="The entry's value, any JSON.", examples=["hello"])]
    tags: Annotated[dict[str, str] | None, Meta(description="Short labels, by which subscribers may filter.")] = None
    ttl: Ttl = None
    key_mode: Annotated[
        Literal["", "if_new", "if_exists"], Meta(description="Only if there is no such entry, or if there is one.")
    ] = ""
    expect: Expected = UNSET
    idempotency_key: Once = ""
    delta: Annotated[bool, Meta(description="Taken for compatibility; it changes nothing.")] = False


class MapRemoveRequest(MethodRequest, kw_only=True):
    channel: Channel
    key: Key
    expect: Expected = UNSET
    idempotency_key: Once = ""


class MapAddRequest(MethodRequest, kw_only=True):
    channel: Channel
    key: Key
    number: Annotated[float | int, Meta(description="What is added to the entry, which is 0 if it is not there.")] = 1
    ttl: Ttl = None
    idempotency_key: Once = ""


class MapReadStateRequest(MethodRequest, kw_only=True):
    channel: Channel
    key: Annotated[str, Meta(description="Only this entry.")] = ""
    cursor: Annotated[str, Meta(description="Where the page before ended.")] = ""
    limit: Annotated[int, Meta(ge=0, le=PAGE, description="At most so many; 0: 1000.")] = 0


class MapResult(Struct, omit_defaults=True):
    """Whether it was done."""

    suppressed: Annotated[bool, Meta(description="It was not done.")] = False
    suppress_reason: Annotated[str, Meta(description="Why: key_exists, key_not_found, value_mismatch.")] = ""
    data: Annotated[Raw | UnsetType, Meta(description="The entry's value now, if there is one.")] = UNSET


class MapAddResult(Struct):
    data: Annotated[float | int, Meta(description="The entry's new value.")]


class MapEntry(Struct, omit_defaults=True):
    key: Key
    data: Annotated[Raw, Meta(description="Its value, any JSON.")]
    tags: Annotated[dict[str, str] | None, Meta(description="Short labels that go with it.")] = None


class MapReadStateResult(Struct):
    entries: Annotated[list[MapEntry], Meta(description="In the order of their keys.")]
    cursor: Annotated[str, Meta(description="For the next page; empty: there is none.")] = ""


class MapStatsResult(Struct):
    num_keys: Count


def _expected(it: Raw | UnsetType) -> bytes | None:
    if isinstance(it, UnsetType):
        return None
    value = one_line(bytes(it))
    return b"" if value == b"null" else value


def _result(it: EntryResult) -> MapResult:
    return MapResult(bool(it.why), it.why, Raw(it.value) if it.value else UNSET)


async def map_publish(server: ServerOperations, it: MapPublishRequest) -> MapResult:
    exists = {"": None, "if_new": False, "if_exists": True}[it.key_mode]
    data, expect = one_line(bytes(it.data)), _expected(it.expect)
    change = EntryChange("set", it.key, data, ttl=it.ttl, tags=it.tags, expect=expect, exists=exists)
    return _result(await server.change_entry(it.channel, change, it.idempotency_key))


async def map_remove(server: ServerOperations, it: MapRemoveRequest) -> MapResult:
    change = EntryChange("remove", it.key, expect=_expected(it.expect), exists=True)
    return _result(await server.change_entry(it.channel, change, it.idempotency_key))


async def map_add(server: ServerOperations, it: MapAddRequest) -> MapAddResult:
    number = b"%d" % it.number if isinstance(it.number, int) else repr(it.number).encode()
    change = EntryChange("add", it.key, number, ttl=it.ttl)
    result = await server.change_entry(it.channel, change, it.idempotency_key)
    return MapAddResult(decode(result.value))


async def map_read_state(server: ServerOperations, it: MapReadStateRequest) -> MapReadStateResult:
    if it.key and it.cursor:
        raise Refusal.bad_request("key: expected no cursor beside it")
    read = EntryChange("read", it.key, after=it.cursor, limit=it.limit or PAGE)
    found = await server.change_entry(it.channel, read)
    entries = [MapEntry(each.key, Raw(each.value), each.tags) for each in found.entries]
    return MapReadStateResult(entries, entries[-1].key if found.more else "")


async def map_stats(server: ServerOperations, it: ChannelRequest) -> MapStatsResult:
    return MapStatsResult(len((await server.change_entry(it.channel, EntryChange("read"))).entries))


async def map_clear(server: ServerOperations, it: ChannelRequest) -> Empty:
    await server.change_entry(it.channel, EntryChange("clear"))
    return Empty()


MAP_METHODS: dict[str, Method] = {
    "map_publish": Method(MapPublishRequest, MapResult, map_publish, "Set an entry of a channel's state."),
    "map_remove": Method(MapRemoveRequest, MapResult, map_remove, "Remove an entry of a channel's state."),
    "map_add": Method(MapAddRequest, MapAddResult, map_add, "Add to an entry that is a number."),
    "map_read_state": Method(MapReadStateRequest, MapReadStateResult, map_read_state, "The entries of a state."),
    "map_stats": Method(ChannelRequest, MapStatsResult, map_stats, "How many entries a state has."),
    "map_clear": Method(ChannelRequest, Empty, map_clear, "Remove all entries of a state."),
}
