"""Who traces messages, if a configuration wants that."""

from freshet.config import Config
from freshet.errors import ConfigError
from freshet.observe.tracing import Tracing


def tracing_of(config: Config) -> Tracing | None:
    """None: nothing is traced. Raises ConfigError when the package is missing."""
    if not config.tracing.enabled:
        return None
    try:  # here, so that an application without the package can still be imported
        from freshet.observe.otel import OpenTelemetryTracing  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigError("tracing.enabled", "it needs a package: pip install opentelemetry-api") from None
    return OpenTelemetryTracing(expose=config.tracing.expose)
