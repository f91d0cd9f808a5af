"""What a rule says of its channels: the options of `[[channels]]`, and which of them go together."""

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct

from freshet.config.units import KIB, SIZE, TIME
from freshet.errors import ConfigError
from freshet.model.log import History


class State(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A map of keys that is the same for all subscribers of a channel, kept in the store of rooms."""

    mode: Annotated[
        Literal["persistent", "recoverable", "ephemeral"],
        Meta(
            description="Entries stay until they are removed; or they expire, and a returning client gets what "
            "changed; or they expire, and it gets all entries anew: no log is kept."
        ),
    ] = "persistent"
    ttl: Annotated[
        float, Meta(ge=0, description="After which an entry expires that is not set again; 0: never.", extra=TIME)
    ] = 0
    key: Annotated[
        Literal["any", "client", "user"],
        Meta(
            description="Which keys clients may set: any; or only one, the client's id, which is removed when it "
            "leaves; or its user's."
        ),
    ] = "any"
    of: Annotated[
        Literal["", "clients", "users"],
        Meta(
            description="For a rule such as `clients:*`: the entries are the clients, or the users, in the channel for "
            "which `*` stands. It needs `presence`, and who subscribes must be allowed to read that."
        ),
    ] = ""
    size: Annotated[
        int,
        Meta(ge=1 * KIB, description="Keys, values and tags of all entries; beyond: refused (106).", extra=SIZE),
    ] = 512 * KIB


class ChannelOptions(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a channel rule may say. Declared here alone: TOML, `Freshet.channel` and the reference are made of this."""

    history: Annotated[
        History | None,
        Meta(
            description="What the log keeps: `{ size, ttl }`, publications and seconds; with `bytes`, what the logs of "
            "all channels with this history may hold in memory together (memory and SQLite engine)."
        ),
    ] = None
    presence: Annotated[bool, Meta(description="The channel keeps who is in it.")] = False
    join_leave: Annotated[
        bool, Meta(description="Subscribers are notified of who joins and leaves; needs presence.")
    ] = False
    delta: Annotated[bool, Meta(description="Clients that ask for it get deltas instead of whole publications.")] = (
        False
    )
    state: Annotated[
        State | None,
        Meta(
            description="The channel has a map of keys, the same for all its subscribers: "
            "`{ mode, ttl, key, size, of }`, or `{}`. Clients set keys as `publish` says."
        ),
    ] = None
    slow: Annotated[
        Literal["disconnect", "drop_oldest", "latest"],
        Meta(
            description="What happens to a client that does not read in time: it is disconnected, its oldest "
            "publications are dropped, or those of one `key` are conflated to the latest."
        ),
    ] = "disconnect"
    debounce: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="A Centrifuge client that publishes more often sends only the latest, of a state the latest of "
            "each key; 0: all.",
            extra=TIME,
        ),
    ] = 0
    subscribe: Annotated[Literal["nobody", "token", "client"], Meta(description="Who may subscribe.")] = "client"
    publish: Annotated[Literal["nobody", "token", "subscriber", "client"], Meta(description="Who may publish.")] = (
        "nobody"
    )
    read: Annotated[
        Literal["nobody", "token", "subscriber", "client"], Meta(description="Who may read history and presence.")
    ] = "subscriber"
    manage: Annotated[
        Literal["nobody", "token", "client"],
        Meta(description="Who may create, close and delete the channel as a stream of `/v1/stream`."),
    ] = "nobody"
    webhooks: Annotated[
        list[Literal["subscribe", "publish", "occupied", "vacated"]],
        Meta(
            description="What the application is asked (subscribe, publish) and notified of (the channel got its first "
            "subscriber, or lost its last); see `[webhooks]`."
        ),
    ] = []


class ChannelConfig(ChannelOptions, forbid_unknown_fields=True, kw_only=True):
    """A rule for all channels that a pattern matches. The first that matches wins."""

    match: Annotated[
        str, Meta(min_length=1, description="`{name}` stands for one or more characters except `:`, `*` for anything.")
    ]


def check_options(match: str, options: ChannelOptions) -> None:
    """Raises ConfigError, with the option's path within the rule, for options that do not fit together."""
    history = options.history
    if options.join_leave and not options.presence:
        raise ConfigError("join_leave", f"the rule {match!r} needs presence = true for it")
    if history is not None and history.size < 1:
        raise ConfigError("history.size", f"expected 1 publication or more, got {history.size}")
    if history is not None and history.bytes < 0:
        raise ConfigError("history.bytes", f"expected 0 bytes or more, got {history.bytes}")
    if history is not None and not 0 < history.ttl < math.inf:
        raise ConfigError("history.ttl", f"expected more than 0 seconds, got {history.ttl:g}")
    if (state := options.state) is not None:
        _check_state(match, options, state)
    if options.delta and options.slow != "disconnect":
        raise ConfigError("slow", f"the rule {match!r} has delta, which needs all that {options.slow!r} drops")


def _check_state(match: str, options: ChannelOptions, state: State) -> None:
    if state.of:
        _check_roster(match, options, state)
    if state.mode == "persistent" and state.ttl:
        raise ConfigError("state.ttl", f"the rule {match!r} is persistent: expected mode recoverable or ephemeral")
    if state.mode == "persistent" and state.key == "client":
        raise ConfigError("state.key", f"the rule {match!r} is persistent: the entries of a node that dies would stay")
    if state.mode != "persistent" and not state.ttl:
        raise ConfigError("state.ttl", f"the rule {match!r} is {state.mode}: expected seconds, more than 0")
    if state.mode == "ephemeral" and options.history is not None:
        raise ConfigError("history", f"the rule {match!r} is ephemeral: expected none, or mode recoverable")
    if "publish" in options.webhooks:
        raise ConfigError("webhooks", f"the rule {match!r} has a state, whose changes only the hook on_change sees")


def _check_roster(match: str, options: ChannelOptions, state: State) -> None:
    if not match.endswith("*") or "*" in match[:-1] or "{" in match or len(match) == 1:
        raise ConfigError("state.of", f"the rule {match!r}: expected a pattern such as 'clients:*'")
    if state != State(of=state.of):
        raise ConfigError("state", f"the rule {match!r} shows who is in a channel: expected nothing beside `of`")
    if options.publish != "nobody":
        raise ConfigError("publish", f"the rule {match!r} shows who is in a channel: expected 'nobody'")
    if options.delta:
        raise ConfigError("delta", f"the rule {match!r} shows who is in a channel: the entries do not change")
    if options.history is not None:
        raise ConfigError("history", f"the rule {match!r} shows who is in a channel, of which there is no log")
