"""Every option, once: its type, default, unit and one line of documentation.

The TOML file, the environment, the command line and the reference in the docs are all read off these classes.
"""

import math
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from freshet.config.gateway import GatewayOptions
from freshet.config.limits import Limits, Rates
from freshet.config.observing import Admin, HealthLimits, Metrics, TracingOptions
from freshet.config.runs import Runs
from freshet.config.units import COUNT, KIB, MIB, MINUTES, SECONDS, SIZE, TIME
from freshet.errors import ConfigError
from freshet.model.log import History

Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class TokenKey(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of several keys: a secret or a public key. Tokens say by their `kid` which one they are signed with."""

    kid: Annotated[str, Meta(min_length=1, description="The key's id, which a token has in its header.")]
    secret: Annotated[str | None, Meta(description="A secret (HMAC).")] = None
    secret_env: Annotated[str | None, Meta(description="The environment variable that holds the secret.")] = None
    public_key: Annotated[str | None, Meta(description="A public key: PEM, or the file that holds it.")] = None

    def __repr__(self) -> str:
        return "TokenKey(...)"  # a secret is in no log

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []  # nor on a console


class Tokens(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may connect."""

    secret: Annotated[str | None, Meta(description="Checks clients' tokens (HMAC).")] = None
    secret_env: Annotated[str, Meta(description="The environment variable that holds the secret.")] = "FRESHET_SECRET"
    public_key: Annotated[
        str | None,
        Meta(description="Checks tokens that others sign: PEM (RSA, EC, Ed25519), or the file that holds it."),
    ] = None
    keys: Annotated[list[TokenKey], Meta(description="Several keys, so that they can be changed one by one.")] = []
    jwks: Annotated[
        str | None,
        Meta(description="Where the public keys of tokens are published, a JSON Web Key Set: `https://...`."),
    ] = None
    jwks_refresh: Annotated[
        float, Meta(ge=30, le=86400, description="After which the key set is fetched again.", extra=TIME)
    ] = 5 * MINUTES
    algorithms: Annotated[
        list[Algorithm], Meta(description="The signatures that are accepted, of those that fit a key.", min_length=1)
    ] = msgspec.field(default_factory=lambda: list(get_args(Algorithm)))
    audience: Annotated[str | None, Meta(description="What a token's `aud` must be.")] = None
    issuer: Annotated[str | None, Meta(description="What a token's `iss` must be.")] = None
    type: Annotated[str | None, Meta(description="What a token's `typ` must be, such as `at+jwt`.")] = None
    leeway: Annotated[float, Meta(ge=0, le=3600, description="Clock skew that is tolerated.", extra=TIME)] = 0
    require_expiry: Annotated[bool, Meta(description="A token without `exp` is refused.")] = False
    max_lifetime: Annotated[
        float,
        Meta(
            ge=0,
            description="A token whose `exp` is missing or further away is refused, and a revocation is kept so long; "
            "0: any, for ever.",
            extra=TIME,
        ),
    ] = 0
    cookie: Annotated[str | None, Meta(description="The cookie that holds a client's token.")] = None
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
    body_size: Annotated[int, Meta(ge=1 * KIB, description="The body of one request.", extra=SIZE)] = 1 * MIB

    def __repr__(self) -> str:
        return "Api(...)"  # a key is in no log

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []  # nor on a console


class Webhooks(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The application's word over HTTP, signed as Standard Webhooks says. A hook in Python takes the place of one."""

    url: Annotated[str | None, Meta(description="Where the application is asked and notified.")] = None
    secret: Annotated[
        str | None,
        Meta(description="Signs the requests: `whsec_` and base64. Several, with spaces between: the key is changing."),
    ] = None
    secret_env: Annotated[str, Meta(description="The environment variable that holds the secret.")] = (
        "FRESHET_WEBHOOK_SECRET"
    )
    events: Annotated[
        list[Literal["connect", "refresh", "rpc", "disconnect"]],
        Meta(description="What of a client the application is asked (connect, refresh, rpc) and notified of."),
    ] = []
    headers: Annotated[
        list[str], Meta(description="Headers of a client's request that the application is shown, such as `cookie`.")
    ] = []
    timeout: Annotated[float, Meta(gt=0, le=60, description="For an answer.", extra=TIME)] = 5 * SECONDS
    concurrency: Annotated[int, Meta(ge=1, description="Requests at a time.", extra=COUNT)] = 64

    def __repr__(self) -> str:
        return "Webhooks(...)"  # a secret is in no log

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []  # nor on a console


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
    if options.delta:
        raise ConfigError("delta", f"the rule {match!r} has a state, whose changes are of several keys")


def _check_roster(match: str, options: ChannelOptions, state: State) -> None:
    if not match.endswith("*") or "*" in match[:-1] or "{" in match or len(match) == 1:
        raise ConfigError("state.of", f"the rule {match!r}: expected a pattern such as 'clients:*'")
    if state != State(of=state.of):
        raise ConfigError("state", f"the rule {match!r} shows who is in a channel: expected nothing beside `of`")
    if options.publish != "nobody":
        raise ConfigError("publish", f"the rule {match!r} shows who is in a channel: expected 'nobody'")
    if options.history is not None:
        raise ConfigError("history", f"the rule {match!r} shows who is in a channel, of which there is no log")


class ChannelConfig(ChannelOptions, forbid_unknown_fields=True, kw_only=True):
    """A rule for all channels that a pattern matches. The first that matches wins."""

    match: Annotated[
        str, Meta(min_length=1, description="`{name}` stands for one or more characters except `:`, `*` for anything.")
    ]


class Timing(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Intervals and timeouts, in seconds."""

    ping_interval: Annotated[float, Meta(ge=0.1, le=3600, description="Between heartbeats.", extra=TIME)] = 25 * SECONDS
    pong_timeout: Annotated[float, Meta(ge=0.05, description="For the answer to a heartbeat.", extra=TIME)] = (
        8 * SECONDS
    )
    connect_timeout: Annotated[float, Meta(gt=0, description="For a client to connect.", extra=TIME)] = 15 * SECONDS
    expiry_grace: Annotated[
        float, Meta(ge=0, description="For a client to refresh a token that expired.", extra=TIME)
    ] = 25 * SECONDS
    presence_ttl: Annotated[
        float, Meta(gt=0, description="After which a client that is not renewed leaves presence.", extra=TIME)
    ] = 1 * MINUTES
    position_check: Annotated[
        float, Meta(gt=0, le=3600, description="Between checks of all channels for gaps.", extra=TIME)
    ] = 30 * SECONDS
    hook_timeout: Annotated[
        float,
        Meta(
            gt=0,
            le=86400,
            description="For a hook of the application, which is then cancelled, unless it has its own `timeout`.",
            extra=TIME,
        ),
    ] = 2 * MINUTES
    hook_grace: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="For a hook to end when its client is gone, unless it has its own `grace`; 0: it is cancelled "
            "at once.",
            extra=TIME,
        ),
    ] = 0
    drain: Annotated[
        float,
        Meta(ge=1, le=600, description="In which all clients are disconnected when the server stops.", extra=TIME),
    ] = 30 * SECONDS
    close_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="For a client to close its side, and for hooks to end when the server stops.",
            extra=TIME,
        ),
    ] = 5 * SECONDS


class Http(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an HTTP request may be, under `freshet serve`; other servers have bounds of their own."""

    head_size: Annotated[int, Meta(ge=1 * KIB, description="The URL and all headers; beyond: 431.", extra=SIZE)] = (
        32 * KIB
    )
    url_size: Annotated[int, Meta(ge=256, description="The URL; beyond: 414.", extra=SIZE)] = 16 * KIB
    headers: Annotated[int, Meta(ge=8, description="Headers; beyond: 431.", extra=COUNT)] = 100
    pipelined: Annotated[
        int,
        Meta(ge=1, description="Requests that are sent before the responses are there; beyond: 429.", extra=COUNT),
    ] = 16
    head_timeout: Annotated[
        float, Meta(gt=0, description="For the URL and the headers to arrive; beyond: 408.", extra=TIME)
    ] = 10 * SECONDS
    body_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="For a body that stands still; one that comes with less than 500 bytes a second lasts not much "
            "longer. And for a response of which the client takes nothing.",
            extra=TIME,
        ),
    ] = 30 * SECONDS
    keep_alive: Annotated[
        float,
        Meta(
            gt=0,
            le=3600,
            description="In which an idle connection stays open: longer than a proxy in front keeps it.",
            extra=TIME,
        ),
    ] = 5 * SECONDS


class Tls(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`https://` and `wss://` under `freshet serve`: TLS 1.2 and 1.3. The files are PEM."""

    certificate: Annotated[
        str, Meta(description="The server's certificate, and behind it those that lead to the authority's; empty: off.")
    ] = ""
    key: Annotated[str, Meta(description="Its key, not encrypted; empty: it is in the certificate's file.")] = ""
    client_ca: Annotated[
        str,
        Meta(description="Authorities whose certificates clients have to show (mutual TLS); empty: they show none."),
    ] = ""
    reload: Annotated[
        float, Meta(ge=0.1, description="Between two looks at whether the files have changed.", extra=TIME)
    ] = 10 * SECONDS


class Internal(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A listener of `freshet serve` for operators: `/api`, `/metrics` and `/health`, the former two only there."""

    port: Annotated[
        int,
        Meta(ge=0, le=65535, description="0: there is none, they are at the public port.", extra={"unit": "TCP port"}),
    ] = 0
    host: Annotated[str, Meta(min_length=1, description="The address to listen on.")] = "127.0.0.1"
    tls: Annotated[bool, Meta(description="It speaks TLS too, with the files of `[tls]`.")] = False


class Rooms(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rooms: what they keep, and how one node takes over from another."""

    store: Annotated[
        str,
        Meta(
            description="Where rooms keep their data: `sqlite:///rooms.db`, for all nodes of one host, "
            "`postgresql://`, `redis://`, or `memory://`, gone with its process."
        ),
    ] = "sqlite:///rooms.db"
    lease: Annotated[
        float,
        Meta(
            ge=0.5,
            le=300,
            description="After which another node takes over the rooms of one that died.",
            extra=TIME,
        ),
    ] = 4 * SECONDS
    idle: Annotated[
        float,
        Meta(gt=0, le=86400, description="Without a message, after which a room leaves memory.", extra=TIME),
    ] = 30 * SECONDS
    mailbox: Annotated[
        int, Meta(ge=1, description="Messages that wait in one room; beyond: they are refused (111).", extra=COUNT)
    ] = 1000


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
    hosts: Annotated[
        list[str],
        Meta(
            description="Names under which the server answers, `example.org` or `*.example.org`, without a port; "
            "empty: any, with `--dev` only addresses and names that nobody can register, such as `localhost`."
        ),
    ] = []
    personal_channels: Annotated[
        bool, Meta(description="The server subscribes every user to the channel `#user`, which is nobody else's.")
    ] = False
    direct: Annotated[
        str,
        Meta(
            description="Where an application around Freshet has mounted it, `/live`: `freshet serve` answers plain "
            "requests below that at once, WebSockets, polls and posts, and no middleware of the application sees "
            "them. Empty: it does so only where it serves Freshet itself.",
            pattern="^(/[^?#%]*)?$",
        ),
    ] = ""
    drain_on_signal: Annotated[
        bool,
        Meta(
            description="Under another server than `freshet serve`, SIGTERM and SIGINT also disconnect the clients: "
            "the server's own handlers run as ever, but it may wait for streams to end."
        ),
    ] = True
    statsd: Annotated[
        str,
        Meta(
            description="Where a DogStatsD agent takes metrics: `127.0.0.1:8125` or `unix:///run/datadog/dsd.socket`; "
            "empty: none are sent."
        ),
    ] = ""
    statsd_tags: Annotated[list[str], Meta(description="What each of them is tagged with, `env:production`.")] = []
    statsd_interval: Annotated[float, Meta(ge=0.1, le=600, description="Between two times.", extra=TIME)] = 10 * SECONDS
    tokens: Tokens = Tokens()
    api: Api = Api()
    metrics: Metrics = Metrics()
    admin: Admin = Admin()
    webhooks: Webhooks = Webhooks()
    channels: list[ChannelConfig] = []
    limits: Limits = Limits()
    rates: Rates = Rates()
    timing: Timing = Timing()
    rooms: Rooms = Rooms()
    gateway: GatewayOptions = GatewayOptions()
    runs: Runs = Runs()
    http: Http = Http()
    tls: Tls = Tls()
    internal: Internal = Internal()
    health: HealthLimits = HealthLimits()
    tracing: TracingOptions = TracingOptions()
    websocket: WebSocket = WebSocket()

    def __repr__(self) -> str:
        return "Config(...)"  # the engine's URL may hold a password

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []
