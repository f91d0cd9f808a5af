"""The options of a server, how they are read, and how a mistake in them is explained."""

from freshet.config.channels import ChannelConfig, ChannelOptions, State, check_options
from freshet.config.credentials import Api, TokenKey, Tokens, Webhooks
from freshet.config.dotenv import variables
from freshet.config.gateway import GatewayAuthorizer, GatewayIntegration, GatewayKey, GatewayOptions, GatewayRoute
from freshet.config.limits import Bound, Limits, Rates
from freshet.config.listening import Http, Internal, Tls, WebSocket
from freshet.config.observing import Admin, HealthLimits, Metrics, TracingOptions
from freshet.config.options import Config, Timing
from freshet.config.reading import (
    OTHER_NAMES,
    PREFIX,
    admin_key_of,
    api_key_of,
    channel_config,
    develop,
    gateway_keys_of,
    gateway_options,
    load,
    metrics_key_of,
    parse,
    secret_of,
    verifies,
    webhook_secrets_of,
)
from freshet.config.rooms import Rooms
from freshet.config.runs import Runs
from freshet.config.shapes import Option, reference
from freshet.config.units import KIB, MIB, MINUTES, SECONDS

__all__ = [
    "KIB",
    "MIB",
    "MINUTES",
    "OTHER_NAMES",
    "PREFIX",
    "SECONDS",
    "Admin",
    "Api",
    "Bound",
    "ChannelConfig",
    "ChannelOptions",
    "Config",
    "HealthLimits",
    "GatewayAuthorizer",
    "GatewayIntegration",
    "GatewayKey",
    "GatewayOptions",
    "GatewayRoute",
    "Http",
    "Internal",
    "Limits",
    "Metrics",
    "Option",
    "Rates",
    "Rooms",
    "Runs",
    "State",
    "Timing",
    "TracingOptions",
    "TokenKey",
    "Tls",
    "Tokens",
    "WebSocket",
    "Webhooks",
    "admin_key_of",
    "api_key_of",
    "channel_config",
    "check_options",
    "develop",
    "gateway_keys_of",
    "gateway_options",
    "load",
    "metrics_key_of",
    "parse",
    "reference",
    "secret_of",
    "variables",
    "verifies",
    "webhook_secrets_of",
]
