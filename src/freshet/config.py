"""Every option, once: its type, default, unit and one line of documentation.

The TOML file, the environment, the command line and the reference in the docs are all read off these classes.
"""

import difflib
import json
import math
import os
import re
import tomllib
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct, structs

from freshet.errors import ConfigError
from freshet.model.log import History

KIB = 1024
MIB = 1024 * KIB
SECONDS = 1
MINUTES = 60 * SECONDS

PREFIX = "FRESHET_"
OTHER_NAMES = frozenset(  # of ours that are no options
    {"FRESHET_TEST_SCALE", "FRESHET_TOKEN", "FRESHET_URL", "FRESHET_WORKER"}
)

S = TypeVar("S", bound=Struct)

_RATE = {"unit": "a second"}
_BYTES, _SECONDS, _COUNT = {"unit": "bytes"}, {"unit": "seconds"}, {"unit": "count"}
_ORIGIN = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://(\*\.)?[^/*@?#\\\s]+/?")


class Tokens(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may connect."""

    secret: Annotated[str | None, Meta(description="Checks clients' tokens (HMAC).")] = None
    secret_env: Annotated[str, Meta(description="The environment variable that holds the secret.")] = "FRESHET_SECRET"
    algorithms: Annotated[
        list[Literal["HS256", "HS384", "HS512"]], Meta(description="The signatures that are accepted.", min_length=1)
    ] = msgspec.field(default_factory=lambda: ["HS256", "HS384", "HS512"])
    audience: Annotated[str | None, Meta(description="What a token's `aud` must be.")] = None
    issuer: Annotated[str | None, Meta(description="What a token's `iss` must be.")] = None
    leeway: Annotated[float, Meta(ge=0, le=3600, description="Clock skew that is tolerated.", extra=_SECONDS)] = 0
    anonymous: Annotated[bool, Meta(description="Clients without a token may connect.")] = False

    def __repr__(self) -> str:
        return "Tokens(...)"  # a secret is in no log

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []  # nor on a console


class Api(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The server API, `/api/{method}`."""

    key: Annotated[str | None, Meta(description="What a caller sends as `X-API-Key`.")] = None
    key_env: Annotated[str, Meta(description="The environment variable that holds the key.")] = "FRESHET_API_KEY"
    anonymous: Annotated[bool, Meta(description="Callers need no key.")] = False
    body_size: Annotated[int, Meta(ge=1 * KIB, description="The body of one request.", extra=_BYTES)] = 1 * MIB

    def __repr__(self) -> str:
        return "Api(...)"  # a key is in no log

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []  # nor on a console


class Metrics(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may read `/metrics`."""

    key: Annotated[str | None, Meta(description="What Prometheus sends as `Authorization: Bearer`.")] = None
    key_env: Annotated[str, Meta(description="The environment variable that holds it.")] = "FRESHET_METRICS_KEY"
    anonymous: Annotated[bool, Meta(description="Readers need no key.")] = False

    def __repr__(self) -> str:
        return "Metrics(...)"  # a key is in no log

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []  # nor on a console


class ChannelOptions(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a channel rule may say. Declared here alone: TOML, `Freshet.channel` and the reference are made of this."""

    history: Annotated[
        History | None, Meta(description="What the log keeps: `{ size, ttl }`, publications and seconds.")
    ] = None
    presence: Annotated[bool, Meta(description="The channel keeps who is in it.")] = False
    join_leave: Annotated[
        bool, Meta(description="Subscribers are notified of who joins and leaves; needs presence.")
    ] = False
    delta: Annotated[bool, Meta(description="Clients that ask for it get deltas instead of whole publications.")] = (
        False
    )
    slow: Annotated[
        Literal["disconnect", "drop_oldest", "latest"],
        Meta(
            description="What happens to a client that does not read in time: it is disconnected, its oldest "
            "publications are dropped, or those of one `key` are conflated to the latest."
        ),
    ] = "disconnect"
    subscribe: Annotated[Literal["nobody", "token", "client"], Meta(description="Who may subscribe.")] = "client"
    publish: Annotated[Literal["nobody", "subscriber", "client"], Meta(description="Who may publish.")] = "nobody"
    read: Annotated[
        Literal["nobody", "subscriber", "client"], Meta(description="Who may read history and presence.")
    ] = "subscriber"


def check_options(match: str, options: ChannelOptions) -> None:
    """Raises ConfigError, with the option's path within the rule, for options that do not fit together."""
    history = options.history
    if options.join_leave and not options.presence:
        raise ConfigError("join_leave", f"the rule {match!r} needs presence = true for it")
    if history is not None and history.size < 1:
        raise ConfigError("history.size", f"expected 1 publication or more, got {history.size}")
    if history is not None and not 0 < history.ttl < math.inf:
        raise ConfigError("history.ttl", f"expected more than 0 seconds, got {history.ttl:g}")
    if options.delta and options.slow != "disconnect":
        raise ConfigError("slow", f"the rule {match!r} has delta, which needs all that {options.slow!r} drops")


class ChannelConfig(ChannelOptions, forbid_unknown_fields=True, kw_only=True):
    """A rule for all channels that a pattern matches. The first that matches wins."""

    match: Annotated[
        str, Meta(min_length=1, description="`{name}` stands for one or more characters except `:`, `*` for anything.")
    ]


class Limits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one client may cost."""

    message_size: Annotated[int, Meta(ge=128, description="A message from a client.", extra=_BYTES)] = 64 * KIB
    fragments: Annotated[int, Meta(ge=1, description="The frames of one WebSocket message.", extra=_COUNT)] = 1024
    outbox: Annotated[
        int, Meta(ge=1 * KIB, description="The outbox of a client: what it has not read yet.", extra=_BYTES)
    ] = 1 * MIB
    channels_per_client: Annotated[int, Meta(ge=1, description="Channels of one client.", extra=_COUNT)] = 128
    channel_length: Annotated[int, Meta(ge=1, le=4096, description="A channel's name.", extra=_BYTES)] = 255
    backlog: Annotated[
        int,
        Meta(
            ge=1, description="Commands of one client that are queued before it is no longer read from.", extra=_COUNT
        ),
    ] = 256
    waiting_requests: Annotated[
        int,
        Meta(
            ge=1, description="Long polls of channels' URLs that wait at a time, of all clients together.", extra=_COUNT
        ),
    ] = 10_000
    connects_per_second: Annotated[
        float,
        Meta(ge=0, description="New clients that one process admits in the long run; 0: any number.", extra=_RATE),
    ] = 2000
    connects_burst: Annotated[
        int, Meta(ge=1, description="New clients that it admits at once after a quiet time.", extra=_COUNT)
    ] = 1000


class Timing(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Intervals and timeouts, in seconds."""

    ping_interval: Annotated[float, Meta(ge=0.1, le=3600, description="Between heartbeats.", extra=_SECONDS)] = (
        25 * SECONDS
    )
    pong_timeout: Annotated[float, Meta(ge=0.05, description="For the answer to a heartbeat.", extra=_SECONDS)] = (
        8 * SECONDS
    )
    connect_timeout: Annotated[float, Meta(gt=0, description="For a client to connect.", extra=_SECONDS)] = 15 * SECONDS
    expiry_grace: Annotated[
        float, Meta(ge=0, description="For a client to refresh a token that expired.", extra=_SECONDS)
    ] = 25 * SECONDS
    presence_ttl: Annotated[
        float, Meta(gt=0, description="After which a client that is not renewed leaves presence.", extra=_SECONDS)
    ] = 1 * MINUTES
    position_check: Annotated[
        float, Meta(gt=0, le=3600, description="Between checks of all channels for gaps.", extra=_SECONDS)
    ] = 30 * SECONDS
    drain: Annotated[
        float,
        Meta(ge=1, le=600, description="In which all clients are disconnected when the server stops.", extra=_SECONDS),
    ] = 30 * SECONDS
    close_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="For a client to close its side, and for hooks to end when the server stops.",
            extra=_SECONDS,
        ),
    ] = 5 * SECONDS


class WebSocket(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The WebSocket transport."""

    compression: Annotated[bool, Meta(description="permessage-deflate, for clients that offer it.")] = False


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All options."""

    engine: Annotated[
        str, Meta(description="Where the logs are: `memory://`, `sqlite:///freshet.db`, `redis://`, `nats://`.")
    ] = "memory://"
    origins: Annotated[
        list[str], Meta(description="Web pages that may connect, `https://example.org`; empty: the server's own host.")
    ] = []
    personal_channels: Annotated[
        bool, Meta(description="The server subscribes every user to the channel `#user`, which is nobody else's.")
    ] = False
    tokens: Tokens = Tokens()
    api: Api = Api()
    metrics: Metrics = Metrics()
    channels: list[ChannelConfig] = []
    limits: Limits = Limits()
    timing: Timing = Timing()
    websocket: WebSocket = WebSocket()

    def __repr__(self) -> str:
        return "Config(...)"  # the engine's URL may hold a password

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


# ------------------------------------------------------------------------------------------------------------- reading


def load(
    path: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration: `overrides` (by path, `tokens.secret`) before the environment before the file before defaults.

    Raises ConfigError, which says where the mistake is, what is wrong and what is allowed.
    """
    tree = _read(path) if path is not None else {}
    unknown = _from_environment(tree, environment)
    for where, value in (overrides or {}).items():
        _put(tree, where.split("."), value)
    config = parse(tree)
    for name in unknown:
        if name not in (config.tokens.secret_env, config.api.key_env, config.metrics.key_env):
            where = name.removeprefix(PREFIX).lower().replace("__", ".")
            raise ConfigError(name, f"no such option. {_allowed(where, list(_paths(Config)))}")
    return config


def parse(tree: dict[str, Any]) -> Config:
    """A configuration from plain values. Raises as `load`."""
    config = _convert(tree, Config)
    _check_numbers(config, "")
    _check_timing(config.timing)
    for index, rule in enumerate(config.channels):
        _check_rule(rule, f"channels[{index}]")
    for index, origin in enumerate(config.origins):
        _check_origin(origin, f"origins[{index}]")
    return config


def channel_config(match: str, options: Mapping[str, Any]) -> ChannelConfig:
    """One rule from plain values. Raises ConfigError with the option's path within the rule."""
    config = _convert({"match": match, **options}, ChannelConfig)
    check_options(match, config)
    return config


def _convert(tree: dict[str, Any], kind: type[S]) -> S:
    _refuse_unknown(tree, kind, "")
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        where = where.strip("`.")
        raise ConfigError(where, _explain(message, where, kind)) from None


def develop(config: Config) -> Config:
    """What `--dev` opens: anonymous sessions and callers, metrics, and where no rules are given, one for everything."""
    everything = ChannelConfig(
        match="*",
        history=History(size=100, ttl=5 * MINUTES),
        presence=True,
        join_leave=True,
        publish="client",
        read="client",
    )
    tokens = structs.replace(config.tokens, anonymous=True)
    api = structs.replace(config.api, anonymous=True)
    metrics = structs.replace(config.metrics, anonymous=True)
    return structs.replace(config, tokens=tokens, api=api, metrics=metrics, channels=config.channels or [everything])


def secret_of(config: Config, environment: Mapping[str, str] = os.environ) -> str | None:
    """The secret itself, or from the environment variable that is named for it."""
    return config.tokens.secret or environment.get(config.tokens.secret_env) or None


def api_key_of(config: Config, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key of the server API itself, or from the environment variable that is named for it."""
    return config.api.key or environment.get(config.api.key_env) or None


def metrics_key_of(config: Config, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key of `/metrics` itself, or from the environment variable that is named for it."""
    return config.metrics.key or environment.get(config.metrics.key_env) or None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"not TOML: {error}") from None


def _from_environment(tree: dict[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Put into `tree` what the environment sets, and answer with the names that have the prefix but are no options.

    A whole table comes before what is in it, so that the order of the names does not matter.
    """
    unknown = []
    for name in sorted(environment, key=lambda name: (name.count("__"), name)):
        if not name.startswith(PREFIX) or name in OTHER_NAMES:
            continue
        where = name.removeprefix(PREFIX).lower().split("__")
        kind = _type_at(Config, where)
        if kind is None:
            unknown.append(name)
        else:
            _put(tree, where, _value(kind, environment[name], name))
    return unknown


def _value(kind: Any, text: str, name: str) -> Any:
    """A value from the environment: JSON for tables and lists of them, commas for lists, plain text otherwise."""
    origin, arguments = _bare(kind)
    if origin is list and arguments[0] is str and not text.startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    if origin in (str, Literal):
        return text
    if origin is bool:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.lower() not in words:
            raise ConfigError(name, f"expected true or false, got {text!r}")
        return words[text.lower()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # without the text, which may hold a secret
        raise ConfigError(name, f"expected JSON: {error}") from None


def _put(tree: dict[str, Any], where: list[str], value: Any) -> None:
    for depth, name in enumerate(where[:-1], 1):
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise ConfigError(".".join(where[:depth]), "expected a table")
    tree[where[-1]] = value


# -------------------------------------------------------------------------------------------------------- explaining


def _check_rule(rule: ChannelConfig, path: str) -> None:
    try:
        check_options(rule.match, rule)
    except ConfigError as error:
        raise ConfigError(f"{path}.{error.path}", error.message) from None


def _check_timing(timing: Timing) -> None:
    if timing.pong_timeout >= timing.ping_interval:
        raise ConfigError(
            "timing.pong_timeout",
            f"expected less than ping_interval, {timing.ping_interval:g} seconds, got {timing.pong_timeout:g}",
        )


def _check_numbers(value: Any, path: str) -> None:
    """TOML and JSON have `inf` and `nan`: a time that never comes, and a bound that nothing is beyond."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(path, f"expected a finite number, got {value}")
    if isinstance(value, Struct):
        for name in value.__struct_fields__:
            _check_numbers(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_numbers(item, f"{path}[{index}]")


def _check_origin(origin: str, path: str) -> None:
    if origin != "*" and _ORIGIN.fullmatch(origin) is None:
        allowed = "`https://example.org`, `https://example.org:8443`, `https://*.example.org` for what is below, or `*`"
        raise ConfigError(path, f"{origin!r} is what no browser sends. Allowed: {allowed}")


def _refuse_unknown(value: Any, kind: Any, path: str) -> None:
    """Names that are no options: msgspec finds them too, but does not say what there is."""
    origin, arguments = _bare(kind)
    if origin is list and isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_unknown(item, arguments[0], f"{path}[{index}]")
    if not (isinstance(origin, type) and issubclass(origin, Struct) and isinstance(value, dict)):
        return
    hints = get_type_hints(origin, include_extras=True)
    for name, item in value.items():
        where = f"{path}.{name}" if path else name
        if name not in hints:
            raise ConfigError(where, f"no such option. {_allowed(name, list(hints))}")
        _refuse_unknown(item, hints[name], where)


def _allowed(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return (f"Did you mean {near[0]!r}? " if near else "") + f"Allowed: {', '.join(names)}"


def _explain(message: str, path: str, root: type[Struct]) -> str:
    kind = _type_at(root, re.sub(r"\[[^]]*\]", "", path).split("."), through_lists=True) if path else None
    origin, arguments = _bare(kind)
    if origin is list and path.endswith("]"):
        origin, arguments = _bare(arguments[0])
    if origin is Literal:
        return f"{message}. Allowed: {', '.join(map(str, arguments))}"
    return message


def _bare(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without `Annotated` and `| None`, and its arguments."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        return _bare(next(each for each in get_args(kind) if each is not type(None)))
    return get_origin(kind) or kind, get_args(kind)


def _type_at(kind: Any, where: list[str], *, through_lists: bool = False) -> Any:
    """The type of an option; None when there is none. through_lists: also of those in a list's tables."""
    for name in where:
        origin, arguments = _bare(kind)
        if origin is list and through_lists:
            origin, _ = _bare(arguments[0])
        hints = get_type_hints(origin, include_extras=True) if isinstance(origin, type) else {}
        if not (isinstance(origin, type) and issubclass(origin, Struct)) or name not in hints:
            return None
        kind = hints[name]
    return kind


class Option(NamedTuple):
    """One option, for the reference.

    path: `tokens.secret`; a rule's begin with `channels[].`. default: JSON, empty when the option has to be given.
    unit: `bytes`, `seconds`, `count`, or empty.
    """

    path: str
    type: str
    default: str
    unit: str
    doc: str


def reference() -> list[Option]:
    """Every option, in order."""
    return list(_options(Config, ""))


def _options(struct: type[Struct], path: str) -> Iterator[Option]:
    hints = get_type_hints(struct, include_extras=True)
    for field in structs.fields(struct):
        hint = hints[field.name]
        origin, arguments = _bare(hint)
        inner = arguments[0] if origin is list else origin
        if isinstance(inner, type) and issubclass(inner, Struct) and inner is not History:
            yield from _options(inner, f"{path}{field.name}{'[]' if origin is list else ''}.")
            continue
        meta = next((each for each in get_args(hint)[1:] if isinstance(each, Meta)), Meta())
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        shown = "" if default is msgspec.NODEFAULT else json.dumps(default)
        names = (
            " | ".join(map(json.dumps, arguments)) if origin is Literal else getattr(origin, "__name__", str(origin))
        )
        unit = (meta.extra or {}).get("unit", "")
        yield Option(f"{path}{field.name}", names, shown, unit, meta.description or "")


def _paths(struct: type[Struct]) -> Iterator[str]:
    return (option.path for option in _options(struct, "") if "[]" not in option.path)
