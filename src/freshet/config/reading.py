"""A configuration is read: from a TOML file, the environment, plain values; what cannot be is named with its path."""

import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct, structs

from freshet.config.channels import ChannelConfig, check_options
from freshet.config.gateway import GatewayOptions
from freshet.config.listening import Tls
from freshet.config.options import Config, Timing
from freshet.config.shapes import allowed, bare, explain, paths, refuse_unknown, type_at
from freshet.config.units import MINUTES
from freshet.errors import ConfigError
from freshet.model.log import History

PREFIX = "FRESHET_"
OTHER_NAMES = frozenset(  # of ours that are no options
    {"FRESHET_TEST_SCALE", "FRESHET_TOKEN", "FRESHET_URL", "FRESHET_WORKER"}
)

S = TypeVar("S", bound=Struct)

_ORIGIN = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://(\*\.)?[^/*@?#\\\s]+/?")
_HOST = re.compile(r"(\*\.)?[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*|\[[0-9a-fA-F:.]+\]")


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
    secrets = {config.tokens.secret_env, config.api.key_env, config.metrics.key_env, config.webhooks.secret_env}
    secrets.add(config.admin.key_env)
    secrets |= {key.secret_env for key in config.tokens.keys if key.secret_env}
    secrets |= {key.secret_env for key in config.gateway.keys if key.secret_env}
    for name in unknown:
        if name not in secrets:
            where = name.removeprefix(PREFIX).lower().replace("__", ".")
            raise ConfigError(name, f"no such option. {allowed(where, list(paths(Config)))}")
    return config


def parse(tree: dict[str, Any]) -> Config:
    """A configuration from plain values. Raises as `load`."""
    config = _convert(tree, Config)
    _check_numbers(config, "")
    _check_timing(config.timing)
    _check_tls(config.tls)
    for index, rule in enumerate(config.channels):
        _check_rule(rule, f"channels[{index}]")
    for index, key in enumerate(config.tokens.keys):
        if sum(value is not None for value in (key.secret, key.secret_env, key.public_key)) != 1:
            raise ConfigError(f"tokens.keys[{index}]", "expected one of secret, secret_env, public_key")
    for index, origin in enumerate(config.origins):
        _check_origin(origin, f"origins[{index}]")
    for index, host in enumerate(config.hosts):
        _check_host(host, f"hosts[{index}]")
    return config


def channel_config(match: str, options: Mapping[str, Any]) -> ChannelConfig:
    """One rule from plain values. Raises ConfigError with the option's path within the rule."""
    # A table of Python, as `History(...)`, checked nothing when it was made.
    plain = {name: msgspec.to_builtins(it) if isinstance(it, Struct) else it for name, it in options.items()}
    config = _convert({"match": match, **plain}, ChannelConfig)
    check_options(match, config)
    return config


def _convert(tree: dict[str, Any], kind: type[S]) -> S:
    refuse_unknown(tree, kind, "")
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        where = where.strip("`.")
        raise ConfigError(where, explain(message, where, kind)) from None


def develop(config: Config) -> Config:
    """What `--dev` opens: anonymous sessions and callers, metrics, and where no rules are given, one for everything."""
    everything = ChannelConfig(
        match="*",
        history=History(size=100, ttl=5 * MINUTES),
        presence=True,
        join_leave=True,
        publish="client",
        read="client",
        manage="client",
    )
    tokens = structs.replace(config.tokens, anonymous=True)
    api = structs.replace(config.api, anonymous=True)
    metrics = structs.replace(config.metrics, anonymous=True)
    admin = structs.replace(config.admin, anonymous=True, allow=["disconnect", "publish"])
    channels = config.channels or [everything]
    return structs.replace(config, tokens=tokens, api=api, metrics=metrics, admin=admin, channels=channels)


def secret_of(config: Config, environment: Mapping[str, str] = os.environ) -> str | None:
    """The secret itself, or from the environment variable that is named for it."""
    return config.tokens.secret or environment.get(config.tokens.secret_env) or None


def verifies(config: Config, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether there is any key with which a token can be right."""
    tokens = config.tokens
    return bool(secret_of(config, environment) or tokens.public_key or tokens.keys or tokens.jwks)


def api_key_of(config: Config, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key of the server API itself, or from the environment variable that is named for it."""
    return _key(config.api.key or environment.get(config.api.key_env))


def metrics_key_of(config: Config, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key of `/metrics` itself, or from the environment variable that is named for it."""
    return _key(config.metrics.key or environment.get(config.metrics.key_env))


def admin_key_of(config: Config, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key of the admin page itself, or from the environment variable that is named for it."""
    return _key(config.admin.key or environment.get(config.admin.key_env))


def gateway_keys_of(config: Config, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The secrets of the keys that sign calls of `@connections`, by the keys' ids. Raises ConfigError."""
    found = {}
    for index, key in enumerate(config.gateway.keys):
        secret = key.secret or (environment.get(key.secret_env) if key.secret_env else None)
        if not secret:
            raise ConfigError(f"gateway.keys[{index}]", "expected secret, or secret_env and that variable")
        found[key.id] = secret
    return found


def gateway_options(config: Config, options: Mapping[str, Any]) -> GatewayOptions:
    """Those of the configuration, but for some. Raises ConfigError."""
    return _convert({**msgspec.to_builtins(config.gateway), **options}, GatewayOptions)


def _key(given: str | None) -> str | None:
    """Without the white space around it, which no header could have."""
    return given.strip() or None if given else None


def webhook_secrets_of(config: Config, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The secrets of webhooks themselves, or from the environment variable that is named for them."""
    return (config.webhooks.secret or environment.get(config.webhooks.secret_env) or "").split()


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
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
        kind = type_at(Config, where)
        if kind is None:
            unknown.append(name)
        else:
            _put(tree, where, _value(kind, environment[name], name))
    return unknown


def _value(kind: Any, text: str, name: str) -> Any:
    """A value from the environment: JSON for tables and lists of them, commas for lists, plain text otherwise."""
    origin, arguments = bare(kind)
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


def _check_tls(tls: Tls) -> None:
    for name in ("key", "client_ca"):
        if getattr(tls, name) and not tls.certificate:
            raise ConfigError(f"tls.{name}", "there is no certificate to go with it: set tls.certificate")


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


def _check_host(host: str, path: str) -> None:
    if host != "*" and _HOST.fullmatch(host) is None:
        raise ConfigError(path, f"{host!r} is no host name. Allowed: `example.org`, `*.example.org`, `[::1]`, or `*`")
