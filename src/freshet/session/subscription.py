"""One session in one channel, or on its way into it."""

import asyncio
from typing import Any, NamedTuple, Protocol

import msgspec

from freshet.model.log import NOWHERE, Publication
from freshet.rules.rules import ChannelRule


class Issued(NamedTuple):
    """Of a token: its id (`jti`), and when it was issued (`iat`, epoch seconds)."""

    token: str | None
    at: float | None


class Subscription:
    """One session in one channel.

    expires: epoch seconds, or 0. info: JSON that others in the channel see. position: where it came in.
    present: others in the channel see it. issued: of the token that it rests on; None: on none of its own.
    mapped: it takes the channel's state as entries, and nothing else.
    """

    __slots__ = ("expires", "info", "issued", "mapped", "position", "present", "rule")

    def __init__(
        self, rule: ChannelRule, info: msgspec.Raw, expires: float, *, present: bool, issued: Issued | None = None
    ) -> None:
        self.rule = rule
        self.present = present
        self.mapped = False
        self.info = info
        self.expires = expires
        self.issued = issued
        self.position = NOWHERE


class Reservation(Protocol):
    """A channel that a session is about to enter: see `commands.subscribing`.

    subscription: what it will have. owner: the task that enters, if any. revoked: it was ended before it began.
    released: whoever waits for what comes of this has it set. greeting: what the client alone gets once it is in.
    """

    subscription: Subscription
    owner: asyncio.Task[Any] | None
    revoked: bool
    released: asyncio.Event | None

    @property
    def greeting(self) -> list[Publication]: ...
