"""`freshet check`: is the configuration right, and what does it say?"""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from freshet.app import Freshet
from freshet.cli.configuration import DEFAULT
from freshet.cli.console import fail, printable
from freshet.cli.security import Finding, findings
from freshet.cli.terminal import out
from freshet.config import Config, load, verifies
from freshet.errors import ConfigError
from freshet.rules.rules import ChannelRules
from freshet.runtime.server import TlsFiles
from freshet.transports.tls import context_of
from freshet.wiring.stores import must_be_a_store


def check(
    path: Annotated[
        Path | None, typer.Argument(help="The TOML file. Default: freshet.toml.", show_default=False)
    ] = None,
    config_path: Annotated[
        Path | None, typer.Option("--config", help="The same, as `freshet serve` takes it.", show_default=False)
    ] = None,
    security: Annotated[bool, typer.Option("--security", help="Show what is open, and why that matters.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="With --security: exit with 1 if something is open.")
    ] = False,
    accept: Annotated[
        list[str] | None, typer.Option(metavar="OPTION", help="It is meant to be open, such as channels[0].publish.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address on which `serve` is to listen.")] = "127.0.0.1",
) -> None:
    """Check a configuration, and show which rules it makes, or what it leaves open.

    [bold]Examples[/bold]

      freshet check --config freshet.toml
      freshet check --security --host 0.0.0.0
      freshet check --security --strict --accept channels[0].publish
    """
    if path is not None and config_path is not None:
        raise typer.BadParameter("expected one file, as PATH or as --config PATH")
    path = path or config_path or DEFAULT
    config = _accepted(path)
    if security or strict:
        found = [each for each in findings(config, host=host) if each.option not in (accept or [])]
        _show_findings(path, found, strict)
    else:
        _show_rules(path, config)


def _accepted(path: Path) -> Config:
    """The configuration, if `serve` would take it; otherwise what is wrong is printed, and the command ends."""
    try:
        config = load(path)
        Freshet(config=config)
        must_be_a_store(config.rooms.store)
        ChannelRules().extend_from(config)
        if config.tls.certificate:
            context_of(TlsFiles(*msgspec.structs.astuple(config.tls)))
    except ConfigError as error:
        hint = (
            f"{path} was not accepted." if path.exists() else "`freshet init` writes one, with every option explained."
        )
        fail(str(error), hint)
    return config


def _show_rules(path: Path, config: Config) -> None:
    table = Table("channels", "history", "presence", "subscribe", "publish", "read")
    for rule in config.channels:
        history = f"{rule.history.size} for {rule.history.ttl:g} s" if rule.history else "-"
        presence = ("join/leave" if rule.join_leave else "yes") if rule.presence else "-"
        table.add_row(escape(rule.match), history, presence, rule.subscribe, rule.publish, rule.read)
    out.print(f"[green]OK[/green] {escape(str(path))}, engine {escape(_place(config.engine))}", highlight=False)
    out.print(table if config.channels else "There are no channel rules: every channel is refused.")
    if config.gateway.enabled:
        routes = escape(printable(", ".join(route.key for route in config.gateway.routes) or "those of the code"))
        out.print(f"The WebSocket API of AWS API Gateway is at /{config.gateway.stage}: {routes}", highlight=False)
    if not _lets_somebody_in(config):
        out.print(
            f"[yellow]Nobody can connect yet:[/yellow] set {escape(config.tokens.secret_env)} or \\[tokens] secret.",
            highlight=False,
        )


def _lets_somebody_in(config: Config) -> bool:
    gateway = config.gateway.enabled and (config.gateway.authorizer is not None or config.gateway.auth == "none")
    webhooks = bool(config.webhooks.url) and "connect" in config.webhooks.events
    return verifies(config) or config.tokens.anonymous or gateway or webhooks


def _show_findings(path: Path, found: list[Finding], strict: bool) -> None:
    is_open = sum(each.level == "open" for each in found)
    table = Table.grid(padding=(0, 2, 1, 0))
    for level, option, what, why in found:
        colour = "red" if level == "open" else "yellow"
        place, how, means = (escape(printable(text)) for text in (option, what, why))
        table.add_row(f"[{colour}]{level}[/{colour}]", f"[bold]{place}[/bold]: {how}\n{means}")
    said = f"{is_open} open, {len(found) - is_open} to look at" if found else "nothing is open"
    out.print(f"{escape(str(path))}: {said}. Rules and hooks of Python code are not seen here.", highlight=False)
    if found:
        out.print()
        out.print(table)
    if strict and is_open:
        raise typer.Exit(1)


def _place(url: str) -> str:
    """An engine's URL without what may be secret in it: the user, the password and the options."""
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.partition("?")[0].rpartition("@")[2]
