"""How commands speak to a person: on stderr, so that stdout is for results."""

import json
import os
from typing import NoReturn

import typer


def say(text: str) -> None:
    """Colours go to a terminal only."""
    typer.echo(text, err=True)


def bold(text: str) -> str:
    return _styled(text, bold=True)


def yellow(text: str) -> str:
    return _styled(text, fg="yellow")


def _styled(text: str, *, bold: bool | None = None, fg: str | None = None) -> str:
    return text if os.environ.get("NO_COLOR") else typer.style(text, bold=bold, fg=fg)


def printable(text: str) -> str:
    """What a stranger wrote, for a terminal: characters that steer it, or turn the line around, as `\\u009b`."""
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def fail(message: str, hint: str = "", code: int = 2) -> NoReturn:
    """Say what is wrong and what to do next, and exit."""
    lines = "\n".join(map(printable, message.split("\n")))
    say(f"{_styled('error:', fg='red')} {lines}")
    if hint:
        say(hint)
    raise typer.Exit(code)
