"""Options of what shows how a server is: metrics, the admin page, health, traces."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from freshet.config.redacted import Redacted
from freshet.config.units import SECONDS, TIME


class Metrics(Redacted, Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may read `/metrics`."""

    key: Annotated[str | None, Meta(description="What Prometheus sends as `Authorization: Bearer`.")] = None
    key_env: Annotated[str, Meta(description="The environment variable that holds it.")] = "FRESHET_METRICS_KEY"
    anonymous: Annotated[bool, Meta(description="Readers need no key.")] = False


class Admin(Redacted, Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The admin page, `/admin/`, and what `freshet top` and `freshet tail --user` read."""

    key: Annotated[str | None, Meta(description="What an operator enters on the page. Without it, there is none.")] = (
        None
    )
    key_env: Annotated[str, Meta(description="The environment variable that holds the key.")] = "FRESHET_ADMIN_KEY"
    allow: Annotated[
        list[Literal["disconnect", "publish"]],
        Meta(description="What an operator may do there, besides looking: disconnect clients, publish test messages."),
    ] = []
    anonymous: Annotated[bool, Meta(description="No key is asked for where the request comes from this machine.")] = (
        False
    )


class HealthLimits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When `/health/ready` says that no new clients should be sent here."""

    engine: Annotated[
        float,
        Meta(ge=0, description="The engine has been away for longer; 0: however long it is.", extra=TIME),
    ] = 30 * SECONDS
    loop_lag: Annotated[
        float, Meta(ge=0, description="The event loop was later than this; 0: however late it is.", extra=TIME)
    ] = 2 * SECONDS


class TracingOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Traces of messages by OpenTelemetry; needs the extra `freshet[otel]` and an SDK that the process sets up."""

    enabled: Annotated[bool, Meta(description="A span for each publication, and one for each fan-out.")] = False
    expose: Annotated[bool, Meta(description="Clients get the trace of a publication, as its tag `traceparent`.")] = (
        False
    )
