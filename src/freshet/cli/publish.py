"""`freshet publish`: by the server API of a running Freshet."""

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from freshet.cli.caller import HERE, RULES, UNKNOWN, ApiKey, Caller, Url
from freshet.cli.console import fail, say

STDIN = "-"


def publish(
    channels: Annotated[str, typer.Argument(metavar="CHANNELS", help="Where to publish: one, or several with commas.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="JSON; `-`: one JSON per line of stdin.")] = STDIN,
    text: Annotated[bool, typer.Option("--text", help="DATA is plain text, not JSON.")] = False,
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A label that goes with it.")] = None,
    idempotency_key: Annotated[str, typer.Option(help="The same key publishes once within 5 minutes.")] = "",
    url: Url = HERE,
    api_key: ApiKey = None,
) -> None:
    """Publish in one or more channels.

    [bold]Examples[/bold]

      freshet publish news '{"text": "hello"}'
      freshet publish chat:1,chat:2 --text 'good evening' --tag event=notice
      tail -f prices.ndjson | freshet publish prices -
    """
    tags = _tags(tag or [])
    names = [name for name in channels.split(",") if name]
    if not names:
        raise typer.BadParameter("expected one or more channels: news,sport", param_hint="CHANNEL")
    api = Caller(url, api_key)
    for line, where in _lines(data):
        request: dict[str, Any] = {"channels": names, "data": _value(line, where, text)}
        if tags:
            request["tags"] = tags
        if idempotency_key:
            request["idempotency_key"] = idempotency_key
        for name, reply in zip(names, api.call("broadcast", request)["responses"], strict=True):
            if "error" in reply:
                hint = RULES if reply["error"]["code"] == UNKNOWN else ""
                fail(f"{name}: {reply['error']['message']}", hint, code=1)
            if data != STDIN:
                offset = reply["result"]["offset"]
                say(f"published in {name}" + (f", offset {offset}" if offset else ""))


def _lines(data: str) -> Iterator[tuple[str, str]]:
    if data != STDIN:
        yield data, "DATA"
        return
    if sys.stdin.isatty():
        say("DATA comes from here: one JSON a line (Ctrl-D ends)")
    for number, line in enumerate(sys.stdin, 1):
        if line.strip():
            yield line.rstrip("\n"), f"line {number}"


def _value(line: str, where: str, text: bool) -> Any:
    if text:
        return line
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        fail(f"{where} is not JSON: {error}", """Plain text wants --text; JSON looks like '{"text": "hello"}'.""")


def _tags(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise typer.BadParameter(f"{pair!r}: expected NAME=VALUE", param_hint="--tag")
    return dict(pair.split("=", 1) for pair in pairs)
