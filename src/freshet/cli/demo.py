"""`freshet demo`: the demo pages, on this machine."""

from typing import Annotated

import typer

from freshet.cli.console import err


def demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")] = 8000,
) -> None:
    """Show what Freshet does: a live stock ticker in your browser.

    [bold]Example[/bold]

      freshet demo --port 8080
    """
    from freshet.demo import app
    from freshet.server import serve

    err.print(f"The demo is at [bold]http://127.0.0.1:{port}[/bold] (Ctrl-C ends it)", highlight=False)
    serve(app, "127.0.0.1", port, log_level="info")
