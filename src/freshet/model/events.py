"""What a client is told: frozen values that `commands/` and the hub make and every dialect encodes."""

from typing import Any, TypeAlias

import msgspec

from freshet.model.log import NOWHERE, ClientInfo, Position, Publication, Stream


class Published(msgspec.Struct, frozen=True):
    """epoch: that of the log which gave the publication its offset."""

    channel: str
    publication: Publication
    epoch: str = ""


class Joined(msgspec.Struct, frozen=True):
    channel: str
    info: ClientInfo


class Left(msgspec.Struct, frozen=True):
    channel: str
    info: ClientInfo


class Subscribed(msgspec.Struct, frozen=True):
    """The answer to `Subscribe`, and with id 0 the news that the server subscribed this client.

    recovered: None when the client did not ask; True: `publications` are all that it missed; False: they could not be
        told, and `position` is where the log stands now.
    ttl: seconds until the subscription's token has to be refreshed; None: never.
    delta: after the first one, publications may be told as the difference to the one before; `publications` too.
    """

    channel: str
    id: int = 0
    position: Position = NOWHERE
    recoverable: bool = False
    recovered: bool | None = None
    publications: list[Publication] = []
    ttl: int | None = None
    data: bytes = b""
    delta: bool = False


class Connected(msgspec.Struct, frozen=True):
    """ttl: seconds until the connection's token has to be refreshed; None: never. ping: seconds between heartbeats.

    pid: with which the client can come back as this session; the same as before if it did.
    session, node: where requests of their own bring what the client says; empty: it says it where it hears.
    """

    id: int
    client: str
    ping: int
    ttl: int | None = None
    data: bytes = b""
    subscriptions: list[Subscribed] = []
    session: str = ""
    node: str = ""
    pid: str = ""


class Unsubscribed(msgspec.Struct, frozen=True):
    """The server ended a subscription. Codes from 2500 on ask the client to subscribe again."""

    channel: str
    code: int = 2000
    reason: str = "server unsubscribe"


class Unsubscription(msgspec.Struct, frozen=True):
    """The answer to `Unsubscribe`."""

    id: int


class Accepted(msgspec.Struct, frozen=True):
    """The answer to `Publish`."""

    id: int
    position: Position


class HistoryPage(msgspec.Struct, frozen=True):
    id: int
    stream: Stream


class PresenceList(msgspec.Struct, frozen=True):
    id: int
    clients: dict[str, ClientInfo]


class PresenceStats(msgspec.Struct, frozen=True):
    id: int
    clients: int
    users: int


class Answer(msgspec.Struct, frozen=True):
    """The answer to `Call`."""

    id: int
    data: bytes


class Refreshed(msgspec.Struct, frozen=True):
    """The answer to `Refresh`."""

    id: int
    client: str
    ttl: int | None


class SubscriptionRefreshed(msgspec.Struct, frozen=True):
    id: int
    ttl: int | None


class Alive(msgspec.Struct, frozen=True):
    """The answer to `Ping`."""

    id: int


class Refused(msgspec.Struct, frozen=True):
    """A command was refused. `command` is its type's name, for dialects that must tell them apart."""

    id: int
    code: int
    message: str
    temporary: bool = False


class Message(msgspec.Struct, frozen=True):
    """The server tells one client something that belongs to no channel."""

    data: bytes


class Emitted(msgspec.Struct, frozen=True):
    """The server has an event for one client. id: 0 when it wants no acknowledgement."""

    event: str
    arguments: list[Any]
    id: int = 0


class Acknowledged(msgspec.Struct, frozen=True):
    """The answer to `Emit`."""

    id: int
    arguments: list[Any]


class Disconnected(msgspec.Struct, frozen=True):
    """The server ends the session: the last news, where the transport has no word of its own for it."""

    code: int
    reason: str


class Heartbeat(msgspec.Struct, frozen=True):
    """The server is there, and asks whether the client is."""


Delivery: TypeAlias = Published | Joined | Left


Event: TypeAlias = (
    Delivery
    | Subscribed
    | Connected
    | Unsubscribed
    | Unsubscription
    | Accepted
    | HistoryPage
    | PresenceList
    | PresenceStats
    | Answer
    | Refreshed
    | SubscriptionRefreshed
    | Alive
    | Refused
    | Message
    | Emitted
    | Acknowledged
    | Disconnected
    | Heartbeat
)


def begun_by(event: Event) -> list[Subscribed]:
    """The subscriptions that begin with what a client is told."""
    if type(event) is Connected:
        return event.subscriptions
    return [event] if type(event) is Subscribed else []
