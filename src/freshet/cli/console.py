"""How commands speak to a person: on stderr, so that stdout is for results."""

import json
from typing import NoReturn

import typer
from rich.console import Console

out = Console(emoji=False)
err = Console(stderr=True, emoji=False)


def printable(text: str) -> str:
    """What a stranger wrote, for a terminal: characters that steer it, or turn the line around, as `\\u009b`."""
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def fail(message: str, hint: str = "", code: int = 2) -> NoReturn:
    """Say what is wrong and what to do next, and exit."""
    err.print("[red]error:[/red]", end=" ")
    err.print("\n".join(map(printable, message.split("\n"))), markup=False, highlight=False, soft_wrap=True)
    if hint:
        err.print(hint, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)
