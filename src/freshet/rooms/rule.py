"""The rule of channels that are rooms, with the hooks of their class checked once."""

from typing import ClassVar

import msgspec

from freshet.config import ChannelConfig
from freshet.errors import ConfigError
from freshet.rooms.room import Room
from freshet.rules.hooks import Hook, HookLimits
from freshet.rules.rules import ChannelRule, Owner

ASKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "on_start": (("self",), ()),
    "on_join": (("self", "session"), ("data",)),
    "on_leave": (("self", "session"), ()),
    "on_message": (("self", "session", "data"), ()),
    "on_request": (("self", "request"), ()),
    "on_tick": (("self",), ()),
    "on_alarm": (("self",), ()),
    "on_stop": (("self",), ()),
}
"""The hooks of a room: what each is given by position, and what it may ask for by name."""


class RoomRule(ChannelRule, eq=False):
    """hooks: those that the class defines.

    Raises TypeError, with what is allowed, for a class that is none of a room, or whose hooks ask for something else.
    """

    owner: ClassVar[Owner] = "room"
    room: type[Room] = Room
    hooks: dict[str, Hook] = msgspec.field(default_factory=dict)

    @classmethod
    def of_room(cls, config: ChannelConfig, room: type[Room]) -> "RoomRule":
        if not issubclass(room, Room):
            raise TypeError(f"{room!r} must be a class that derives from freshet.Room")
        if config.delta:
            raise ConfigError("delta", f"the rule {config.match!r} is of rooms, which also send to one client alone")
        rule = cls.of(config)
        rule.room = room
        limits = HookLimits(room.timeout)
        for name, (positional, named) in ASKS.items():
            if (function := getattr(room, name)) is not getattr(Room, name):
                rule.hooks[name] = Hook(function, positional, named, limits)
        return rule
