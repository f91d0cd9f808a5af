"""The command line: one file per command.

Exit codes: 0 done, 1 it failed, 2 a mistake in the command line or the configuration.
"""

from typing import Annotated

import typer

from freshet.cli.check import check
from freshet.cli.demo import demo
from freshet.cli.serve import serve
from freshet.cli.token import token
from freshet.cli.version import version

app = typer.Typer(
    name="freshet",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def options(
    shown: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Freshet, the real-time server for Python."""


for command in (serve, demo, check, token, version):
    app.command()(command)


def main() -> None:
    """The entry point."""
    app()
