"""`freshet token`: a client's token, for trying things out."""

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from freshet.cli.configuration import configuration
from freshet.cli.console import fail
from freshet.config import secret_of
from freshet.errors import ConfigError
from freshet.policy.tokens import TokenVerifier

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def token(
    user: Annotated[str, typer.Option(help="Whose token it is (`sub`).")],
    expires: Annotated[str, typer.Option(help="How long it is valid: 30s, 10m, 1h, 7d.")] = "1h",
    channel: Annotated[str | None, typer.Option(help="Make a subscription token for this channel.")] = None,
    channels: Annotated[str | None, typer.Option(help="Channels to which the server subscribes: a,b.")] = None,
    info: Annotated[str | None, typer.Option(help="What others see of the client, JSON.")] = None,
    secret_env: Annotated[str | None, typer.Option(help="The environment variable that holds the secret.")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file. Default: freshet.toml, if there is one.")] = None,
) -> None:
    """Print a token. The secret comes from --secret-env, the configuration or FRESHET_SECRET.

    [bold]Examples[/bold]

      FRESHET_SECRET=... freshet token --user alice
      freshet token --user alice --channel private:1 --expires 10m
    """
    try:
        options = configuration(config, _without(secret_env))
        secret = os.environ.get(secret_env) if secret_env else secret_of(options)
        if not secret:
            name = secret_env or options.tokens.secret_env
            fail("no secret is set", f"Set {name}, or [tokens] secret in freshet.toml.")
        tokens = TokenVerifier.from_config(options.tokens, secret)  # refuses a secret that the server would
    except ConfigError as error:
        fail(str(error))
    length, parsed = _seconds(expires), _json(info)
    try:
        printed = tokens.issue(
            user,
            expires_in=length,
            info=parsed,
            channels=[name for name in (channels or "").split(",") if name],
            channel=channel,
        )
    except UnicodeEncodeError:
        fail("--user, --channel, --channels or --info: not UTF-8")
    print(printed)


def _without(secret_env: str | None) -> dict[str, str]:
    """The environment, but for the name that a flag makes a secret's."""
    return {name: value for name, value in os.environ.items() if name != secret_env}


def _json(info: str | None) -> Any:
    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no number")

    try:
        # What is not UTF-8 on the command line comes as halves of characters, which are none here.
        return json.loads(info.encode(), parse_constant=refuse) if info is not None else None
    except (ValueError, RecursionError) as error:
        fail(f"--info: not JSON: {error}", """For example --info '{"name": "Alice"}'.""")


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if found is None:
        fail(f"--expires: {text!r} is no duration", "Allowed: a number and s, m, h or d, such as 30s or 7d.")
    return int(found[1]) * _UNITS[found[2]]
