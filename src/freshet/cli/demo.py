"""`freshet demo`: the demo pages, on this machine."""

import socket
import webbrowser
from typing import Annotated

import typer
from uvicorn.importer import import_from_string

from freshet.cli.console import bold, say
from freshet.cli.ports import must_be_free

HOST = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - asked for with --share


def demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0: any free one.")] = 8000,
    share: Annotated[
        bool, typer.Option("--share", help="For your phone, and all others in your network: each page shows a QR code.")
    ] = False,
    show: Annotated[bool, typer.Option("--open", help="Open them in your browser.")] = False,
) -> None:
    """Show what Freshet does, in your browser: a stock ticker, an auction, a game, a chat, shared cursors.

    [bold]Examples[/bold]

      freshet demo --open
      freshet demo --port 8080
      freshet demo --share
    """
    from freshet.serving.server import serve

    host = EVERYWHERE if share else HOST

    def started(where: str) -> None:
        if share:
            where = f"{own_address()}:{where.rpartition(':')[2]}"
        say(f"The demos are at {bold(f'http://{where}')} (Ctrl-C ends them)")
        if show:
            webbrowser.open(f"http://{where}")

    must_be_free(host, port)
    app = import_from_string("freshet.demos:app")  # an application, as anybody's that `freshet serve` serves
    serve(app, host, port, log_level="info", started=started)


def own_address() -> str:
    """The address of this machine in its network, by which others reach it; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: nobody's; a datagram socket only chooses its own address
        except OSError:
            return HOST
        return str(probe.getsockname()[0])
