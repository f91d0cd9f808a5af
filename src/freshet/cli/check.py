"""`freshet check`: is the configuration right, and what does it say?"""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from freshet.app import Freshet
from freshet.cli.configuration import DEFAULT
from freshet.cli.console import fail, out
from freshet.config import load, secret_of
from freshet.errors import ConfigError
from freshet.rules.rules import ChannelRules


def check(
    path: Annotated[
        Path | None, typer.Argument(help="The TOML file. Default: freshet.toml.", show_default=False)
    ] = None,
    config_path: Annotated[
        Path | None, typer.Option("--config", help="The same, as `freshet serve` takes it.", show_default=False)
    ] = None,
) -> None:
    """Check a configuration, and show which rules it makes.

    [bold]Example[/bold]

      freshet check --config freshet.toml
    """
    if path is not None and config_path is not None:
        raise typer.BadParameter("expected one file, as PATH or as --config PATH")
    path = path or config_path or DEFAULT
    try:
        config = load(path)
        Freshet(config=config)  # refuses what `serve` would
        ChannelRules().extend_from(config)
    except ConfigError as error:
        fail(str(error), f"{path} was not accepted.")
    table = Table("channels", "history", "presence", "subscribe", "publish", "read")
    for rule in config.channels:
        history = f"{rule.history.size} for {rule.history.ttl:g} s" if rule.history else "-"
        presence = ("join/leave" if rule.join_leave else "yes") if rule.presence else "-"
        table.add_row(escape(rule.match), history, presence, rule.subscribe, rule.publish, rule.read)
    out.print(f"[green]OK[/green] {escape(str(path))}, engine {escape(_place(config.engine))}", highlight=False)
    out.print(table if config.channels else "There are no channel rules: every channel is refused.")
    if secret_of(config) is None and not config.tokens.anonymous:
        out.print(
            f"[yellow]Nobody can connect yet:[/yellow] set {escape(config.tokens.secret_env)} or \\[tokens] secret.",
            highlight=False,
        )


def _place(url: str) -> str:
    """An engine's URL without what may be secret in it: the user, the password and the options."""
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.partition("?")[0].rpartition("@")[2]
