"""How commands speak to a person: on stderr, so that stdout is for results."""

from typing import NoReturn

import typer
from rich.console import Console

out = Console()
err = Console(stderr=True)


def fail(message: str, hint: str = "", code: int = 2) -> NoReturn:
    """Say what is wrong and what to do next, and exit."""
    err.print("[red]error:[/red]", end=" ")
    err.print(message, markup=False, highlight=False)
    if hint:
        err.print(hint, markup=False, highlight=False)
    raise typer.Exit(code)
