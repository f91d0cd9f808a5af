"""What the server of the Centrifugal protocol sends, apart from how it is encoded: a reply to one request, or a push.

`reply_of` gives the fields of the message for an event, by the names of the protocol, which both encodings write.

Source: `definitions/client.proto` of centrifugal/protocol.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from msgspec import Raw

from freshet.dialects.base import info_of
from freshet.dialects.centrifuge import fossil
from freshet.dialects.centrifuge.requests import MAPS, STATE_PHASE, UINT32
from freshet.model.entries import StateEntry, entry_of
from freshet.model.events import (
    Accepted,
    Alive,
    Answer,
    Connected,
    Disconnected,
    Event,
    HistoryPage,
    Joined,
    Left,
    Message,
    PresenceList,
    PresenceStats,
    Published,
    Refreshed,
    Refused,
    Subscribed,
    SubscriptionRefreshed,
    Unsubscribed,
    Unsubscription,
)
from freshet.model.log import Publication

VERSION = "freshet"


class Payload(NamedTuple):
    """How an encoding writes what passes through it undecoded.

    data: a publication's data, to be read as it is.
    part: bytes of a publication's data, or a delta of them, for a client that applies deltas.
    json: JSON of the server or of another client.
    """

    data: Callable[[Publication], bytes | Raw]
    part: Callable[[bytes], bytes | str]
    json: Callable[[bytes | Raw], bytes | Raw]


Fields: TypeAlias = dict[str, Any]
"""A message's fields by the names of the protocol; those that are empty may be left out."""


def _uint32(number: int) -> int:
    """A number that comes from a token or from the application, within the range of its field."""
    return max(0, min(number, UINT32))


def publication_fields(publication: Publication, payload: Payload) -> Fields:
    """A publication with its data whole."""
    fields: Fields = {"data": payload.data(publication)}
    if publication.info:
        fields["info"] = info_of(publication.info, payload.json)
    if publication.offset:
        fields["offset"] = publication.offset
    if publication.tags:
        fields["tags"] = publication.tags
    return fields


def entry_fields(entry: StateEntry, payload: Payload, offset: int = 0, *, parts: bool = False) -> Fields:
    """An entry of a map, or its removal. parts: the client applies deltas."""
    fields: Fields = {"key": entry.key}
    if entry.value:
        fields["data"] = payload.part(entry.value) if parts else payload.data(Publication(entry.value))
    else:
        fields["removed"] = True
    if offset:
        fields["offset"] = offset
    if entry.tags:
        fields["tags"] = entry.tags
    if entry.info is not None:
        fields["info"] = info_of(entry.info, payload.json)
    return fields


def entry_push(event: Published, payload: Payload) -> Fields | None:
    """A publication for a client that takes the channel as a map; None: it changes nothing in there."""
    entry = entry_of(event.publication)
    if entry is None:
        return None
    return {"push": {"channel": event.channel, "pub": entry_fields(entry, payload, event.publication.offset)}}


def entry_push_after(event: Published, before: Publication | None, payload: Payload) -> Fields | None:
    """As `entry_push`, for a client that applies deltas. before: the key's value that it has; None: it is not known."""
    entry = entry_of(event.publication)
    if entry is None:
        return None
    fields = entry_fields(entry, payload, event.publication.offset, parts=True)
    if entry.value:
        fields |= _part(Publication(entry.value), before, payload)
    return {"push": {"channel": event.channel, "pub": fields}}


def _part(publication: Publication, before: Publication | None, payload: Payload) -> Fields:
    """Data for a client that has those before: the delta, or the whole where that is not longer."""
    data = bytes(payload.data(publication))
    if before is not None:
        delta = fossil.create(bytes(payload.data(before)), data)
        if len(delta) < len(data):
            return {"data": payload.part(delta), "delta": True}
    return {"data": payload.part(data)}


def _delta_fields(publication: Publication, before: Publication | None, payload: Payload) -> Fields:
    """A publication for a client that has the one before."""
    return publication_fields(publication, payload) | _part(publication, before, payload)


def _expiry(ttl: int | None) -> Fields:
    return {} if ttl is None else {"expires": True, "ttl": _uint32(ttl)}


def _stand(event: Subscribed, payload: Payload) -> Fields:
    """Where a subscription begins: what the reply to `Subscribe` and the push of a server's subscription share."""
    fields: Fields = {}
    if event.recoverable:
        fields |= {"recoverable": True, "positioned": True, "epoch": event.position.epoch}
        if event.position.offset:
            fields["offset"] = event.position.offset
    if event.data:
        fields["data"] = payload.json(event.data)
    return fields


def _subscribed(event: Subscribed, payload: Payload) -> Fields:
    fields = _stand(event, payload) | _expiry(event.ttl)
    if event.recovered is not None:
        fields |= {"was_recovering": True, "recovered": event.recovered}
    if event.delta:
        fields["delta"] = True
    if event.debounce:
        fields["publish_debounce"] = max(1, round(event.debounce * 1000))
    publications = event.publications
    if event.entries is not None:
        return fields | _map(event, payload)
    if publications and event.delta:
        befores = [None, *publications]
        fields["publications"] = [
            _delta_fields(each, before, payload) for each, before in zip(publications, befores, strict=False)
        ]
    elif publications:
        fields["publications"] = [publication_fields(each, payload) for each in publications]
    return fields


def _map(event: Subscribed, payload: Payload) -> Fields:
    """The protocol has it that the server says the type again, and no phase once the flow is live."""
    parts = event.delta
    fields: Fields = {"type": MAPS[0]}
    fields["state"] = [entry_fields(each, payload, parts=parts) for each in event.entries or ()]
    if event.cursor:
        fields |= {"phase": STATE_PHASE, "cursor": event.cursor}
    changes = [(each.offset, entry_of(each)) for each in event.publications]
    fields["publications"] = [
        entry_fields(it, payload, offset, parts=parts) for offset, it in changes if it is not None
    ]
    return fields


def _connected(event: Connected, payload: Payload) -> Fields:
    fields: Fields = {"client": event.client, "version": VERSION, "ping": _uint32(event.ping), "pong": True}
    if event.data:
        fields["data"] = payload.json(event.data)
    if event.session:
        fields |= {"session": event.session, "node": event.node}
    if event.subscriptions:
        fields["subs"] = {each.channel: _subscribed(each, payload) for each in event.subscriptions}
    return fields | _expiry(event.ttl)


def _history_page(event: HistoryPage, payload: Payload) -> Fields:
    publications = [publication_fields(each, payload) for each in event.stream.publications]
    epoch, offset = event.stream.position
    return {"publications": publications, "epoch": epoch, "offset": offset}


def presence_fields(event: PresenceList, payload: Payload) -> Fields:
    return {"presence": {id: info_of(info, payload.json) for id, info in event.clients.items()}}


def _presence_stats(event: PresenceStats, payload: Payload) -> Fields:
    return {"num_clients": event.clients, "num_users": event.users}


def _refreshed(event: Refreshed, payload: Payload) -> Fields:
    return {"client": event.client, "version": VERSION} | _expiry(event.ttl)


def _refused(event: Refused, payload: Payload) -> Fields:
    return {"code": _uint32(event.code), "message": event.message, "temporary": event.temporary}


def _presence_change(event: Joined | Left, payload: Payload) -> Fields:
    return {"info": info_of(event.info, payload.json)}


def _unsubscribed(event: Unsubscribed, payload: Payload) -> Fields:
    return {"code": _uint32(event.code), "reason": event.reason}


def _nothing(event: Event, payload: Payload) -> Fields:
    return {}


Write: TypeAlias = Callable[[Any, Payload], Fields]

REPLIES: dict[type[Any], tuple[str, Write]] = {
    Accepted: ("publish", _nothing),
    Alive: ("ping", _nothing),
    Answer: ("rpc", lambda event, payload: {"data": payload.json(event.data or b"null")}),
    Connected: ("connect", _connected),
    HistoryPage: ("history", _history_page),
    PresenceList: ("presence", presence_fields),
    PresenceStats: ("presence_stats", _presence_stats),
    Refreshed: ("refresh", _refreshed),
    Refused: ("error", _refused),
    Subscribed: ("subscribe", _subscribed),
    SubscriptionRefreshed: ("sub_refresh", lambda event, payload: _expiry(event.ttl)),
    Unsubscription: ("unsubscribe", _nothing),
}
"""The replies to commands: their field in the protocol's `Reply`, and how its fields are made."""

PUSHES: dict[type[Any], tuple[str, Write]] = {
    Joined: ("join", _presence_change),
    Left: ("leave", _presence_change),
    Published: ("pub", lambda event, payload: publication_fields(event.publication, payload)),
    Subscribed: ("subscribe", _stand),
    Unsubscribed: ("unsubscribe", _unsubscribed),
}
"""What belongs to a channel and answers no command: its field in the protocol's `Push`, and how its fields are made."""


def push_after(event: Published, before: Publication | None, payload: Payload) -> Fields:
    """A publication for a client that applies deltas and has `before`; None: it has none yet."""
    return {"push": {"channel": event.channel, "pub": _delta_fields(event.publication, before, payload)}}


def reply_of(event: Event, payload: Payload) -> Fields | None:
    """A reply or a push as the fields of the protocol's `Reply`; None: the protocol has no message for it."""
    if type(event) is Disconnected:
        return {"push": {"disconnect": {"code": _uint32(event.code), "reason": event.reason}}}
    if type(event) is Message:
        return {"push": {"message": {"data": payload.json(event.data)}}}
    id = getattr(event, "id", 0)
    if id and (reply := REPLIES.get(type(event))):
        name, write = reply
        return {"id": id, name: write(event, payload)}
    if push := PUSHES.get(type(event)):
        name, write = push
        return {"push": {"channel": event.channel, name: write(event, payload)}}  # type: ignore[attr-defined]
    return None
