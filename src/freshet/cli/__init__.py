"""The command line: one file per command.

Exit codes: 0 done, 1 it failed, 2 a mistake in the command line or the configuration, 3 the server could not start,
130 interrupted.
"""

import os
from typing import Annotated

import typer

from freshet.cli.bench import bench
from freshet.cli.cert import cert
from freshet.cli.check import check
from freshet.cli.console import fail
from freshet.cli.demo import demo
from freshet.cli.doctor import doctor
from freshet.cli.gateway import gateway
from freshet.cli.init import init
from freshet.cli.publish import publish
from freshet.cli.revoke import revoke
from freshet.cli.serve import serve
from freshet.cli.tail import tail
from freshet.cli.token import token
from freshet.cli.top import top
from freshet.cli.version import version
from freshet.config import variables
from freshet.errors import ConfigError

app = typer.Typer(
    name="freshet",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
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
    """Freshet, the real-time server for Python.

    [bold]Exit codes[/bold]: 0 done, 1 it failed, 2 a mistake in the command line or the configuration, 3 the server
    could not start, 130 interrupted.
    """
    try:
        found = variables()
    except ConfigError as error:
        fail(str(error))
    for name, value in found.items():
        os.environ.setdefault(name, value)


for command in (init, serve, demo, publish, tail, top, bench, check, doctor, cert, token, revoke, version):
    app.command()(command)


app.add_typer(gateway)


def main() -> None:
    """The entry point."""
    app()
