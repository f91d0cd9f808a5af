"""`freshet tail --user` and `--channel`: what an operator sees, over the WebSocket of the admin page."""

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.text import Text

from freshet.cli.configuration import DEFAULT, configuration
from freshet.cli.console import fail, printable
from freshet.cli.terminal import err, out
from freshet.cli.wire import Rejected, Wire, endpoint, sessions
from freshet.config import admin_key_of
from freshet.errors import ConfigError

HINT = "Give --admin-key, or set FRESHET_ADMIN_KEY."

AdminKey = Annotated[
    str | None, typer.Option(help="Default: FRESHET_ADMIN_KEY, or \\[admin] key in freshet.toml.", show_default=False)
]


def key_of(given: str | None) -> str:
    try:
        return given or admin_key_of(configuration()) or ""
    except ConfigError as error:
        fail(str(error), f"Give --admin-key, or repair {DEFAULT}.")


def operate(wire: Wire, key: str, *channels: str) -> None:
    """Connect as the admin page does, and subscribe to what it shows."""
    try:
        wire.ask("connect", {"data": {"key": key}, "name": "freshet"})
        for channel in channels:
            wire.ask("subscribe", {"channel": channel})
    except Rejected as why:
        fail(str(why), HINT, 1)
    wire.established = True


def traced(url: str, topic: str, key: str | None) -> Iterator[dict[str, Any]]:
    """What happens there, for ever. topic: `user:NAME` or `channel:NAME`."""
    given = key_of(key)
    kind, _, name = topic.partition(":")
    err.print(f"tracing the {kind} {printable(name)} at {url} (Ctrl-C ends)", markup=False, highlight=False)

    def run(wire: Wire) -> Iterator[dict[str, Any]]:
        if wire.again:
            err.print("back; what happened meanwhile is not known", style="green")
        operate(wire, given, f"tail:{topic}")
        while True:
            data = (wire.next() or {}).get("pub", {}).get("data", {})
            if left_out := data.get("left_out"):
                err.print(f"{left_out} more were left out: too many to show", style="yellow", highlight=False)
            yield from data.get("items", [])

    return sessions(endpoint(url, "admin/connection/websocket"), run, HINT)


def show_traced(item: dict[str, Any]) -> None:
    line = Text(time.strftime("%H:%M:%S ", time.localtime(item["at"])), "dim")
    line.append(f"{item.get('command') or item['kind']:<12} ", "bold")
    if client := item.get("client"):
        line.append(printable(f"{item.get('user') or 'anonymous'}/{client[:6]} "), "magenta")
    for name in ("channel", "method", "event"):
        if name in item:
            line.append(printable(f"{item[name]} "), "cyan")
    if item.get("offset"):
        line.append(f"{item['offset']} ", "dim")
    line.append(printable(item.get("data", "")))
    if why := item.get("refused") or item.get("why"):
        line.append(printable(f" {why}"), "red")
    out.print(line, soft_wrap=True, highlight=False)
    out.file.flush()
