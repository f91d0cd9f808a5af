"""The rule of channels that are rooms, with the hooks of their class checked once."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import msgspec

from freshet.config import ChannelConfig, State, channel_config
from freshet.errors import ConfigError
from freshet.model.log import History
from freshet.rooms.room import Room
from freshet.rules.hooks import Function, Hook, HookLimits
from freshet.rules.rules import ChannelRule, Owner

F = TypeVar("F", bound=Function)

ASKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "on_start": (("self",), ()),
    "on_join": (("self", "session"), ("data",)),
    "on_leave": (("self", "session"), ()),
    "on_message": (("self", "session", "data"), ()),
    "on_request": (("self", "request"), ()),
    "on_tick": (("self",), ()),
    "on_change": (("self", "session", "key", "data"), ("removed",)),
    "on_alarm": (("self",), ()),
    "on_stop": (("self",), ()),
}
"""The hooks of a room: what each is given by position, and what it may ask for by name."""


CHANGES = History(size=300, ttl=300)
"""What is kept of the changes of a state, unless its rule says how much: who was away for longer gets all entries."""


class RoomRule(ChannelRule, eq=False):
    """hooks: those that the class defines.

    Raises TypeError, with what is allowed, for a class that is none of a room, or whose hooks ask for something else.
    """

    owner: ClassVar[Owner] = "room"
    room: type[Room] = Room
    hooks: dict[str, Hook] = msgspec.field(default_factory=dict)

    @classmethod
    def of_state(cls, match: str, options: Mapping[str, Any]) -> "RoomRule":
        """A state without a class. options: those of the option `state`, and of the rule."""
        own = {name: value for name, value in options.items() if name in State.__struct_fields__}
        others = {name: value for name, value in options.items() if name not in own}
        return cls.of_room(channel_config(match, {"publish": "subscriber", **others, "state": own}), Room)

    @property
    def takes_changes(self) -> bool:
        """Whether clients may change the state, if they may publish."""
        return self.room is Room or "on_change" in self.hooks

    @property
    def takes_pages(self) -> bool:
        """Whether a client may get the state in several pages: then it comes in with each, and goes again."""
        state = self.state
        quiet = not self.hooks.keys() & {"on_join", "on_leave"}
        return quiet and state is not None and state.key != "client"

    @classmethod
    def of_room(cls, config: ChannelConfig, room: Any) -> "RoomRule":
        if not (isinstance(room, type) and issubclass(room, Room)):
            raise TypeError(
                f"{room!r} must be a class that derives from freshet.Room; functions are hooks of a channel"
            )
        if config.delta and config.state is None:
            raise ConfigError("delta", f"the rule {config.match!r} is of rooms, which also send to one client alone")
        state = config.state
        if state is not None and state.of:
            raise ConfigError("state.of", f"the rule {config.match!r} needs no room: expected live.channel")
        if state is not None and state.mode != "ephemeral" and config.history is None:
            config = msgspec.structs.replace(config, history=CHANGES)
        rule = cls.of(config)
        rule.room = room
        limits = HookLimits(room.timeout)
        for name, (positional, named) in ASKS.items():
            if (function := getattr(room, name)) is not getattr(Room, name):
                rule.hooks[name] = Hook(function, positional, named, limits)
        return rule


class StateChannel:
    """The channels of one pattern that are a state and nothing else: see `Freshet.state`."""

    def __init__(self, rule: RoomRule) -> None:
        self.rule = rule

    def on_change(self, function: F) -> F:
        """`function(room, session, key, data)` runs before an entry is set, or removed; `room.state` is as it was.

        session: None when it is the server's wish. data: None when it is removed; the function may ask for `removed`.
        What it returns is set instead, unless it is None. Raise `Refusal` to refuse it.
        """
        self.rule.hooks["on_change"] = Hook(function, ("room", "session", "key", "data"), ("removed",))
        return function
