"""Every option is declared once, with its type, default, unit and one line of documentation; `Config` is their root.

The TOML file, the environment, the command line and the reference in the docs are all read off it. A table of its own
subject has a file of its own beside this one.
"""

from typing import Annotated

from msgspec import Meta, Struct

from freshet.config.channels import ChannelConfig
from freshet.config.credentials import Api, Tokens, Webhooks
from freshet.config.gateway import GatewayOptions
from freshet.config.limits import Limits, Rates
from freshet.config.listening import Http, Internal, Tls, WebSocket
from freshet.config.observing import Admin, HealthLimits, Metrics, TracingOptions
from freshet.config.redacted import Redacted
from freshet.config.rooms import Rooms
from freshet.config.runs import Runs
from freshet.config.units import MINUTES, SECONDS, TIME


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


class Config(Redacted, Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All options. It is redacted because the engine's URL may hold a password."""

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
