"""`freshet publish`: by the server API of a running Freshet."""

import http.client
import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from freshet.cli.configuration import DEFAULT, configuration
from freshet.cli.console import err, fail
from freshet.config import api_key_of
from freshet.errors import ConfigError

TIMEOUT = 10.0  # seconds
HERE = "http://127.0.0.1:8000"
STDIN = "-"

Url = Annotated[str, typer.Option(envvar="FRESHET_URL", help="Where Freshet is, with the prefix of its mount.")]


def publish(
    channels: Annotated[str, typer.Argument(metavar="CHANNEL[,CHANNEL...]", help="Where to publish.")],
    data: Annotated[str, typer.Argument(metavar="[DATA]", help="JSON; `-`: one JSON per line of stdin.")] = STDIN,
    text: Annotated[bool, typer.Option("--text", help="DATA is plain text, not JSON.")] = False,
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A label that goes with it.")] = None,
    idempotency_key: Annotated[str, typer.Option(help="The same key publishes once within 5 minutes.")] = "",
    url: Url = HERE,
    api_key: Annotated[
        str | None, typer.Option(help="Default: FRESHET_API_KEY, or [api] key in freshet.toml.", show_default=False)
    ] = None,
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
    api = _Api(url, api_key or _configured_key())
    for line, where in _lines(data):
        request: dict[str, Any] = {"channels": names, "data": _value(line, where, text)}
        if tags:
            request["tags"] = tags
        if idempotency_key:
            request["idempotency_key"] = idempotency_key
        for name, reply in zip(names, api.call("broadcast", request)["responses"], strict=True):
            if "error" in reply:
                fail(f"{name}: {reply['error']['message']}", code=1)
            if data != STDIN:
                offset = reply["result"]["offset"]
                err.print(f"published in {name}" + (f", offset {offset}" if offset else ""), highlight=False)


def _configured_key() -> str:
    try:
        config = configuration()
    except ConfigError as error:
        fail(str(error), f"Give --api-key, or repair {DEFAULT}.")
    return api_key_of(config) or ""


def _lines(data: str) -> Iterator[tuple[str, str]]:
    if data != STDIN:
        yield data, "DATA"
        return
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


class _Api:
    """One connection to the server API."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise typer.BadParameter(f"{url!r}: expected http://HOST[:PORT][/PREFIX]", param_hint="--url")
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._url = url
        self._path = parts.path.rstrip("/")
        self._connection = kind(parts.hostname, parts.port, timeout=TIMEOUT)
        self._headers = {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """The result. Whatever goes wrong ends the command with a hint."""
        try:
            self._connection.request("POST", f"{self._path}/api/{method}", json.dumps(request), self._headers)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or repr(error)
            fail(
                f"{self._url}: {why}", "Is `freshet serve` running there? Another place: --url or FRESHET_URL.", code=1
            )
        try:
            answer = json.loads(body)
        except ValueError:
            fail(f"{self._url}: answered {response.status}, not as Freshet does", "Is the prefix missing in --url?", 1)
        if response.status == http.client.UNAUTHORIZED:
            fail(answer["error"]["message"], "Give --api-key, or set FRESHET_API_KEY.", code=1)
        if "error" in answer:
            fail(f"{method}: {answer['error']['message']}", code=1)
        result: dict[str, Any] = answer["result"]
        return result
