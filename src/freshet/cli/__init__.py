"""The command line: one file per command, which is imported when that command runs.

Exit codes: 0 done, 1 it failed, 2 a mistake in the command line or the configuration, 3 the server could not start,
130 interrupted.
"""

import gc
import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, Final, cast

import typer
from typer.core import TyperCommand, TyperGroup

# In the order of --help: NAME of the module NAME, a function or a typer.Typer.
NAMES = (
    "init",
    "serve",
    "demo",
    "publish",
    "tail",
    "top",
    "bench",
    "check",
    "doctor",
    "cert",
    "token",
    "revoke",
    "version",
    "gateway",
)
YOUNG = 200_000  # objects before a collection; the imports of a server make half as many
MARKUP: Final = "rich"


class Commands(Mapping[str, TyperCommand | TyperGroup]):
    """By name; one is imported when it is asked for, and --help asks for all."""

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        if name not in NAMES:
            raise KeyError(name)
        command = getattr(import_module(f"{__name__}.{name}"), name)
        if not isinstance(command, typer.Typer):
            function, command = command, typer.Typer(rich_markup_mode=MARKUP, add_completion=False)
            command.command(name)(function)
        return cast("TyperCommand | TyperGroup", typer.main.get_command(command))

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


class CommandGroup(TyperGroup):
    """Finds its commands in `Commands`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "commands": Commands()})


app = typer.Typer(
    name="freshet",
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode=MARKUP,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from freshet.cli.version import version

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
    from freshet.cli.console import fail
    from freshet.config import variables
    from freshet.errors import ConfigError

    try:
        found = variables()
    except ConfigError as error:
        fail(str(error))
    for name, value in found.items():
        os.environ.setdefault(name, value)


def main() -> None:
    """The entry point.

    What is imported stays: to look for garbage in it, on the way and once more at the end, takes a quarter of the time
    of a short command. A server sets other thresholds as it begins.
    """
    gc.set_threshold(YOUNG)
    try:
        app()
    finally:
        gc.freeze()
