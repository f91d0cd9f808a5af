"""`freshet demo`: the demo pages, on this machine."""

from typing import Annotated

import typer

from freshet.cli.console import err


def demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")] = 8000,
) -> None:
    """Show what Freshet does, in your browser: a stock ticker, a chat, shared cursors.

    [bold]Example[/bold]

      freshet demo --port 8080
    """
    from freshet.demos import app
    from freshet.serving.server import serve

    err.print(f"The demos are at [bold]http://127.0.0.1:{port}[/bold] (Ctrl-C ends them)", highlight=False)
    serve(app, "127.0.0.1", port, log_level="info")
