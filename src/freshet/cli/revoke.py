"""`freshet revoke`: by the server API of a running Freshet."""

from typing import Annotated, Any

import typer

from freshet.cli.caller import HERE, ApiKey, Caller, Url
from freshet.cli.console import say


def revoke(
    user: Annotated[str, typer.Option(help="All tokens of this user that were issued until now.")] = "",
    token: Annotated[str, typer.Option(help="The one token with this id, its `jti`.")] = "",
    issued_before: Annotated[float, typer.Option(help="Those issued until this Unix time, of --user or of all.")] = 0,
    url: Url = HERE,
    api_key: ApiKey = None,
) -> None:
    """Take back tokens, and end the sessions that rest on them.

    [bold]Examples[/bold]

      freshet revoke --user alice
      freshet revoke --token 0b5c
    """
    if not (user or token or issued_before):
        raise typer.BadParameter("expected one of them", param_hint="--user, --token, --issued-before")
    request: dict[str, Any] = {"user": user, "token": token, "issued_before": issued_before}
    Caller(url, api_key).call("revoke", {name: value for name, value in request.items() if value})
    say("revoked")
