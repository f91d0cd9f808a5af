"""`freshet demo`: the demo pages, on this machine."""

import webbrowser
from typing import Annotated

import typer
from uvicorn.importer import import_from_string

from freshet.cli.console import err
from freshet.cli.ports import must_be_free

HOST = "127.0.0.1"


def demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0: any free one.")] = 8000,
    show: Annotated[bool, typer.Option("--open", help="Open them in your browser.")] = False,
) -> None:
    """Show what Freshet does, in your browser: a stock ticker, an auction, a game, a chat, shared cursors.

    [bold]Examples[/bold]

      freshet demo --open
      freshet demo --port 8080
    """
    from freshet.serving.server import serve

    def started(where: str) -> None:
        err.print(f"The demos are at [bold]http://{where}[/bold] (Ctrl-C ends them)", highlight=False)
        if show:
            webbrowser.open(f"http://{where}")

    must_be_free(HOST, port)
    app = import_from_string("freshet.demos:app")  # an application, as anybody's that `freshet serve` serves
    serve(app, HOST, port, log_level="info", started=started)
