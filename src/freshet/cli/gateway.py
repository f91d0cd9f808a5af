"""`freshet gateway`: what goes from AWS's descriptions of a WebSocket API to `[gateway]`."""

from pathlib import Path
from typing import Annotated

import typer

from freshet.cli.configuration import DEFAULT
from freshet.cli.console import fail, say
from freshet.cli.imported import read
from freshet.errors import ConfigError

gateway = typer.Typer(
    name="gateway",
    no_args_is_help=True,
    help="WebSocket APIs of AWS API Gateway.",
    add_completion=False,  # it is the whole program's
    pretty_exceptions_enable=False,
)


@gateway.callback()
def commands() -> None:
    """WebSocket APIs of AWS API Gateway."""


@gateway.command("import")
def import_(
    template: Annotated[Path, typer.Argument(help="template.yaml (SAM, CloudFormation), or serverless.yml.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The TOML file to write. Default: the console.")
    ] = None,
) -> None:
    """Read the routes, integrations and the authorizer of a WebSocket API, and write them as `\\[gateway]`.

    What it cannot do is said on the way, and in the file.

    [bold]Examples[/bold]

      freshet gateway import template.yaml --output freshet.toml
    """
    try:
        imported = read(template)
    except ConfigError as error:
        fail(str(error))
    text = imported.toml()
    if output is None:
        typer.echo(text, nl=False)
    elif output.exists():
        fail(
            f"{output} is there already, and is left as it is.", "Another file: --output FILE; without it, the console."
        )
    else:
        output.write_text(text, "utf-8")
        config = "" if output == DEFAULT else f" --config {output}"
        say(f"wrote {output}; it runs with: freshet serve --dev{config}")
    for note in imported.notes:
        say(f"not taken over: {note}")
