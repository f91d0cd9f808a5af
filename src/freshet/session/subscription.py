"""One session in one channel, or on its way into it."""

import asyncio
from collections.abc import Iterator, MutableMapping
from typing import Any, NamedTuple, Protocol

import msgspec

from freshet.model.log import NOWHERE, Position, Publication
from freshet.rules.rules import ChannelRule


class Issued(NamedTuple):
    """Of a token: its id (`jti`), and when it was issued (`iat`, epoch seconds)."""

    token: str | None
    at: float | None


class Subscription(msgspec.Struct, gc=False, eq=False):  # one or more for each client: nothing in it refers to it
    """One session in one channel.

    expires: epoch seconds, or 0. info: JSON that others in the channel see. position: where it came in.
    present: others in the channel see it. issued: of the token that it rests on; None: on none of its own.
    mapped: it takes the channel's state as entries, and nothing else.
    """

    rule: ChannelRule
    info: msgspec.Raw
    expires: float
    present: bool
    issued: Issued | None = None
    mapped: bool = False
    position: Position = NOWHERE


class Subscriptions(MutableMapping[str, Subscription]):
    """A session's, by channel. Most sessions are in one channel, for which a dict would be large."""

    __slots__ = ("_channel", "_held")

    def __init__(self) -> None:
        self._channel: str | None = None  # if it is one
        self._held: Subscription | dict[str, Subscription] | None = None

    def __getitem__(self, channel: str) -> Subscription:
        held = self._held
        if isinstance(held, dict):
            return held[channel]
        if held is None or channel != self._channel:
            raise KeyError(channel)
        return held

    def __setitem__(self, channel: str, subscription: Subscription) -> None:
        held, only = self._held, self._channel
        if isinstance(held, dict):
            held[channel] = subscription
        elif held is None or only is None or channel == only:
            self._channel, self._held = channel, subscription
        else:
            self._channel, self._held = None, {only: held, channel: subscription}

    def __delitem__(self, channel: str) -> None:
        if isinstance(self._held, dict):
            del self._held[channel]
        elif self._held is None or channel != self._channel:
            raise KeyError(channel)
        else:
            self._channel = self._held = None

    def __iter__(self) -> Iterator[str]:
        if isinstance(self._held, dict):
            return iter(self._held)
        return iter(() if self._channel is None else (self._channel,))

    def __len__(self) -> int:
        return len(self._held) if isinstance(self._held, dict) else self._held is not None

    def __repr__(self) -> str:
        return repr(dict(self))


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
