"""What goes to a client: frozen values that `commands/` and the hub make and every dialect encodes."""

from typing import ClassVar, TypeAlias

import msgspec

from freshet.model.entries import StateEntry
from freshet.model.log import NOWHERE, ClientInfo, Position, Publication, Stream


class Event(msgspec.Struct, frozen=True):
    """What goes to a client. An endpoint may bring events of its own, which its dialect alone can encode.

    begins: subscriptions may begin with it: see `begun_by`.
    """

    begins: ClassVar[bool] = False


class Published(Event, frozen=True):
    """epoch: that of the log which gave the publication its offset."""

    channel: str
    publication: Publication
    epoch: str = ""


class Joined(Event, frozen=True):
    channel: str
    info: ClientInfo


class Left(Event, frozen=True):
    channel: str
    info: ClientInfo


class Subscribed(Event, frozen=True):
    """The answer to `Subscribe`, and with id 0 the notification that the server subscribed this client.

    recovered: None when the client did not ask; True: `publications` are all that it missed; False: they cannot
        be replayed, and `position` is where the log stands now.
    ttl: seconds until the subscription's token has to be refreshed; None: never.
    delta: after the first one, publications may be the difference to the one before; `publications` too. Of a state it
        is the difference to the value of the key before.
    entries: the channel's state, for a client that takes it so; None: it does not, or has it already. cursor: the last
        of their keys when there are more: the subscription has not begun.
    summed_up: `publications` is one that stands for all up to it: without it the client is nowhere.
    debounce: seconds in which the client is to publish once at most.
    """

    begins: ClassVar[bool] = True
    channel: str
    id: int = 0
    position: Position = NOWHERE
    recoverable: bool = False
    recovered: bool | None = None
    publications: list[Publication] = []
    ttl: int | None = None
    data: bytes = b""
    delta: bool = False
    entries: list[StateEntry] | None = None
    cursor: str = ""
    summed_up: bool = False
    debounce: float = 0


class Connected(Event, frozen=True):
    """ttl: seconds until the connection's token has to be refreshed; None: never. ping: seconds between heartbeats.

    session, node: where requests of their own bring what the client says; empty: it says it on its own connection.
    """

    begins: ClassVar[bool] = True
    id: int
    client: str
    ping: int
    ttl: int | None = None
    data: bytes = b""
    subscriptions: list[Subscribed] = []
    session: str = ""
    node: str = ""


class Unsubscribed(Event, frozen=True):
    """The server ended a subscription. Codes from 2500 on ask the client to subscribe again."""

    channel: str
    code: int = 2000
    reason: str = "server unsubscribe"


class Unsubscription(Event, frozen=True):
    """The answer to `Unsubscribe`."""

    id: int


class Accepted(Event, frozen=True):
    """The answer to `Publish`. answer: of a room, JSON; empty: there is none."""

    id: int
    position: Position
    answer: bytes = b""


class HistoryPage(Event, frozen=True):
    id: int
    stream: Stream


class PresenceList(Event, frozen=True):
    """encoded: the list as dialects wrote it, by their names, for all who get the same."""

    id: int
    clients: dict[str, ClientInfo]
    encoded: dict[str, bytes] = {}


class PresenceStats(Event, frozen=True):
    id: int
    clients: int
    users: int


class Answer(Event, frozen=True):
    """The answer to `Call`."""

    id: int
    data: bytes


class Refreshed(Event, frozen=True):
    """The answer to `Refresh`."""

    id: int
    client: str
    ttl: int | None


class SubscriptionRefreshed(Event, frozen=True):
    id: int
    ttl: int | None


class Alive(Event, frozen=True):
    """The answer to `Ping`."""

    id: int


class Refused(Event, frozen=True):
    """A command was refused. id: the command's, by which a dialect that has several under way knows which."""

    id: int
    code: int
    message: str
    temporary: bool = False


class Message(Event, frozen=True):
    """A message of the server to one client, that belongs to no channel."""

    data: bytes


class Disconnected(Event, frozen=True):
    """The server ends the session: the last event, where the transport cannot say that by itself."""

    code: int
    reason: str


class Heartbeat(Event, frozen=True):
    """The server is there, and asks whether the client is."""


Delivery: TypeAlias = Published | Joined | Left


def begun_by(event: Event) -> list[Subscribed]:
    """The subscriptions that begin with an event."""
    if isinstance(event, Connected):
        return event.subscriptions
    return [event] if type(event) is Subscribed else []
