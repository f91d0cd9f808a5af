"""What a configuration leaves open, and why that matters: what `freshet check --security` prints.

Whatever the answer depends on is in the configuration, the environment and the files that they name. Rules and hooks
of an application in Python are not seen.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from freshet.config import (
    ChannelConfig,
    Config,
    admin_key_of,
    api_key_of,
    metrics_key_of,
    secret_of,
    verifies,
    webhook_secrets_of,
)
from freshet.config.gateway import GatewayOptions
from freshet.config.limits import RATES

KEY_LENGTH = 16  # characters, of a key that nobody guesses
VARIETY = 8  # different characters, of a secret that was not made up by hand
LOGINS = ("creds", "nkey", "ssl_certfile")  # what an engine's URL may have instead of a password


class Finding(NamedTuple):
    """level: `open`: somebody can do what is rarely wanted; `note`: right in some places, so look at it.

    option: its path. what: how it is. why: what that means, and what to do.
    """

    level: Literal["open", "note"]
    option: str
    what: str
    why: str


def findings(config: Config, environment: Mapping[str, str] = os.environ, host: str = "127.0.0.1") -> list[Finding]:
    """All, those that are open first. host: the address that the server is to listen on."""
    found = [
        *_clients(config, environment),
        *_issuers(config),
        *_webhooks(config, environment),
        *_operators(config, environment),
        *_gateway(config.gateway, environment),
        *_pages(config),
        *_rules(config.channels),
        *_proxies(environment, host),
        *_network(config, host),
        *_limits(config),
    ]
    return sorted(found, key=lambda finding: finding.level != "open")


def _clients(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    secret = secret_of(config, environment)
    if config.tokens.anonymous:
        why = "Whoever reaches the server connects, without a token. Set it to false, and hand tokens to your users."
        yield Finding("open", "tokens.anonymous", "true", why)
    elif not verifies(config, environment):
        yield Finding("note", "tokens.secret", "not set", f"Nobody can connect. Set {config.tokens.secret_env}.")
    if secret and (len(secret) < 2 * KEY_LENGTH or len(set(secret)) < VARIETY):
        why = "Who guesses it signs tokens for any user. Set one of `openssl rand -hex 32`."
        yield Finding("open", "tokens.secret", "weak", why)
    if config.tokens.secret:
        yield _in_the_file("tokens.secret", config.tokens.secret_env)


def _issuers(config: Config) -> Iterator[Finding]:
    tokens = config.tokens
    if tokens.jwks and not tokens.audience:
        why = "Any token of that issuer connects, also one that was made for another service. Set tokens.audience."
        yield Finding("open", "tokens.audience", "not set, with tokens.jwks", why)
    if tokens.jwks and not tokens.issuer:
        why = "Where one set has the keys of several tenants, tokens of all of them connect. Set tokens.issuer."
        yield Finding("note", "tokens.issuer", "not set, with tokens.jwks", why)
    if not (tokens.require_expiry or tokens.max_lifetime or tokens.anonymous):
        why = "A token that was stolen may be good for ever. Set it to true, or tokens.max_lifetime."
        yield Finding("note", "tokens.require_expiry", "false", why)


def _webhooks(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    webhooks = config.webhooks
    if not webhooks.url:
        return
    parts = urlsplit(webhooks.url)
    if parts.scheme == "http" and not _is_local(parts.hostname or ""):
        why = "Who is between the two answers for the application: who connects, and what is published. Use https."
        yield Finding("open", "webhooks.url", f"http://{parts.hostname}", why)
    for secret in webhook_secrets_of(config, environment):
        if len(set(secret)) < VARIETY:
            why = "Who guesses it speaks to the application as this server. Set one of `openssl rand -base64 32`."
            yield Finding("open", "webhooks.secret", "weak", why)
    if webhooks.secret:
        yield _in_the_file("webhooks.secret", webhooks.secret_env)


def _operators(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    keys = {
        "api": api_key_of(config, environment),
        "metrics": metrics_key_of(config, environment),
        "admin": admin_key_of(config, environment),
    }
    if config.api.anonymous:
        why = "Whoever reaches /api publishes in any channel and disconnects any user. Set a key instead."
        yield Finding("open", "api.anonymous", "true", why)
    if config.metrics.anonymous:
        why = "Whoever reaches /metrics sees how much the server is used. Set a key instead."
        yield Finding("open", "metrics.anonymous", "true", why)
    if config.admin.anonymous:
        why = "Every user of this machine, and a proxy on it that names nobody, sees all messages. Set a key instead."
        yield Finding("open", "admin.anonymous", "true", why)
    for name, key in keys.items():
        if key and _is_weak(key):
            yield Finding("open", f"{name}.key", "weak", "It can be guessed. Set one of `openssl rand -hex 32`.")
    known = [value for value in (secret_of(config, environment), *keys.values()) if value]
    if len(set(known)) < len(known):
        why = "Who has one of secret and keys has another, too: Prometheus can publish, or a back end sign tokens."
        yield Finding("open", "api.key", "not of its own", why)
    for option in (config.api, config.metrics, config.admin):
        if option.key:
            yield _in_the_file(f"{type(option).__name__.lower()}.key", option.key_env)
    is_open = config.api.anonymous or config.metrics.anonymous or config.admin.anonymous
    if not config.internal.port and (is_open or any(keys.values())):
        why = "What is for operators is where clients connect: /api, /metrics, /admin. Give it a port of its own, or "
        yield Finding("note", "internal.port", "0", why + "keep it from the world in the proxy.")


def _gateway(options: GatewayOptions, environment: Mapping[str, str]) -> Iterator[Finding]:
    if options.auth == "none" and options.authorizer is None:
        why = "Whoever reaches the server connects to the gateway, without a token. Set it to token, or an authorizer."
        yield Finding("open", "gateway.auth", '"none"', why)
    for index, key in enumerate(options.keys):
        secret = key.secret or environment.get(key.secret_env or "")
        if secret and _is_weak(secret):
            why = "Who guesses it sends to any connection, and ends it. Set one of `openssl rand -hex 32`."
            yield Finding("open", f"gateway.keys[{index}].secret", "weak", why)
        if key.secret:
            yield _in_the_file(f"gateway.keys[{index}].secret", "a variable, and its name as secret_env,")


def _is_weak(key: str) -> bool:
    return len(key) < KEY_LENGTH or len(set(key)) < VARIETY


def _in_the_file(option: str, variable: str) -> Finding:
    return Finding("note", option, "in the file", f"Files are copied and committed. Set {variable} in the environment.")


def _pages(config: Config) -> Iterator[Finding]:
    if "*" in config.origins:
        why = "Pages of any site connect from your users' browsers. List the origins of your own."
        yield Finding("open", "origins", '"*"', why)
    for origin in config.origins:
        if origin.startswith("http://") and not _is_local(urlsplit(origin).hostname or ""):
            why = "Who is between a user and that page can change it, and connect from it. Serve it by https."
            yield Finding("note", "origins", origin, why)
    if not config.hosts:
        why = "The server answers under any name. Where it is not in public, a page can reach it by a name of its own "
        yield Finding("note", "hosts", "empty", why + "(DNS rebinding). List its names.")
    elif "*" in config.hosts:
        yield Finding("note", "hosts", '"*"', "The server answers under any name. List its names.")


def _rules(channels: list[ChannelConfig]) -> Iterator[Finding]:
    for index, rule in enumerate(channels):
        place, match = f"channels[{index}]", rule.match
        if match == "*" and rule.subscribe == "client":
            why = "Every client subscribes to every channel that no rule before has. Name the channels, or ask for "
            yield Finding("open", f"{place}.subscribe", f'"client", for {match!r}', why + 'tokens: "token".')
        if rule.publish == "client":
            why = "Every client publishes there, also without subscribing. Mostly `subscriber` or `nobody` will do."
            yield Finding("open", f"{place}.publish", f'"client", for {match!r}', why)
        if rule.manage == "client":
            why = "Every client creates, closes and deletes streams there, those of others too. Ask for tokens: "
            yield Finding("open", f"{place}.manage", f'"client", for {match!r}', why + '"token".')
        if rule.read == "client":
            why = "Every client reads history and presence, also without subscribing. Mostly `subscriber` will do."
            yield Finding("note", f"{place}.read", f'"client", for {match!r}', why)


def _proxies(environment: Mapping[str, str], host: str) -> Iterator[Finding]:
    trusted = environment.get("FORWARDED_ALLOW_IPS", "")
    if trusted.strip() == "*":
        why = "Who reaches the server says itself from where it comes: no limit of an address holds. Name your proxies."
        yield Finding("open", "FORWARDED_ALLOW_IPS", '"*"', why)
    elif not trusted and not _is_local(host):
        why = "Behind a proxy of another machine all clients have its address: none is limited by it where that is "
        yield Finding(
            "note", "FORWARDED_ALLOW_IPS", "not set", why + "private, all together where it is public. Name it."
        )


def _network(config: Config, host: str) -> Iterator[Finding]:
    tls, internal = config.tls, config.internal
    if not tls.certificate:
        level: Literal["open", "note"] = "note" if _is_local(host) else "open"
        why = "Tokens travel in the clear, unless a proxy before it speaks TLS. Set tls.certificate and tls.key."
        yield Finding(level, "tls.certificate", "none", why)
    elif (key := _readable_by_others(tls.key or tls.certificate)) is not None:
        why = "Other users of this machine can pass for this server. chmod 600, and the server's user as its owner."
        yield Finding("open", "tls.key", f"{key}: readable by others", why)
    if internal.port and not internal.tls and not _is_local(internal.host):
        why = "Keys travel in the clear on that network, and nothing but them keeps others out. Set internal.tls."
        yield Finding("note", "internal.host", internal.host, why)
    yield from _engine(config.engine)


def _engine(url: str) -> Iterator[Finding]:
    scheme, _, rest = url.partition("://")
    if scheme in ("memory", "sqlite"):
        return
    authority, _, options = rest.partition("?")
    user, _, hosts = authority.partition("/")[0].rpartition("@")
    names = [name for name in (_host_of(each) for each in hosts.split(",")) if not _is_local(name)]
    if not names:
        return
    if not user and not any(f"{name}=" in options for name in LOGINS):
        why = "Who reaches the broker publishes in every channel and reads every log. Give it a password."
        yield Finding("open", "engine", f"{scheme}://{names[0]}: no password", why)
    if not (scheme.startswith(("rediss", "tls")) or "ssl_" in options):
        why = "Messages and the password travel in the clear between server and broker. Use rediss:// or tls://."
        yield Finding("note", "engine", f"{scheme}://{names[0]}: no TLS", why)


def _limits(config: Config) -> Iterator[Finding]:
    for name in RATES:
        if getattr(config.rates, name).rate == 0:
            why = "There is no limit: one client can keep the server busy, and the others waiting."
            yield Finding("open", f"rates.{name}", "off", why)
    for name, whose in (("sessions_per_user", "user"), ("sessions_per_address", "address")):
        if getattr(config.limits, name) == 0:
            why = f"One {whose} can have all connections that there may be. Set a number."
            yield Finding("open", f"limits.{name}", "0", why)
    if config.limits.log_memory == 0:
        why = "Clients that may publish in ever new channels fill the memory. Set a number of bytes."
        yield Finding("note", "limits.log_memory", "0", why)
    if config.rates.scope == "process" and config.engine.partition("://")[0] not in ("memory", "sqlite"):
        why = "A user whose clients are on four servers may do four times as much. Set it to cluster."
        yield Finding("note", "rates.scope", '"process"', why)
    if config.limits.connects_per_second == 0:
        why = "When all reconnect at once, they are admitted at once, and those who are connected wait."
        yield Finding("open", "limits.connects_per_second", "0", why)


# ------------------------------------------------------------------------------------------------------------- places


def _host_of(authority: str) -> str:
    return urlsplit(f"//{authority}").hostname or ""


def _is_local(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in ("", "localhost") or host.endswith(".localhost")


def _readable_by_others(path: str) -> str | None:
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return None
    return path if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IRGRP | stat.S_IWGRP) else None
