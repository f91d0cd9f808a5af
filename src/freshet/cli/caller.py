"""What commands use that call the server API of a running Freshet."""

import http.client
import json
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import typer

from freshet.cli.configuration import DEFAULT, configuration
from freshet.cli.console import fail
from freshet.config import api_key_of
from freshet.errors import ConfigError

TIMEOUT = 10.0  # seconds
HERE = "http://127.0.0.1:8000"
API = "/api/"

Url = Annotated[str, typer.Option(envvar="FRESHET_URL", help="Where Freshet is, with the prefix of its mount.")]
ApiKey = Annotated[
    str | None, typer.Option(help="Default: FRESHET_API_KEY, or \\[api] key in freshet.toml.", show_default=False)
]


def _configured_key() -> str:
    try:
        config = configuration()
    except ConfigError as error:
        fail(str(error), f"Give --api-key, or repair {DEFAULT}.")
    return api_key_of(config) or ""


class _ReplyError(msgspec.Struct):
    message: str


class _Reply(msgspec.Struct):
    """Whoever answers with neither of the two is somebody else."""

    result: dict[str, Any] | None = None
    error: _ReplyError | None = None

    def __post_init__(self) -> None:
        if self.result is None and self.error is None:
            raise ValueError("neither result nor error")


class Caller:
    """One connection to the server API. key: None: that of the configuration."""

    def __init__(self, url: str, key: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise typer.BadParameter(f"{url!r}: expected http://HOST[:PORT][/PREFIX]", param_hint="--url")
        key = key or _configured_key()
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._url = url
        self._path = parts.path.rstrip("/")
        self._connection = kind(parts.hostname, parts.port, timeout=TIMEOUT)
        self._headers = {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """The result. Whatever goes wrong ends the command with a hint."""
        try:
            self._connection.request("POST", f"{self._path}{API}{method}", json.dumps(request), self._headers)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or repr(error)
            fail(
                f"{self._url}: {why}", "Is `freshet serve` running there? Another place: --url or FRESHET_URL.", code=1
            )
        try:
            answer = msgspec.json.decode(body, type=_Reply)
        except msgspec.DecodeError:
            fail(
                f"{self._url}{API}{method}: {response.status} {response.reason}: no server API of Freshet is there",
                "Mounted in an application, it is below a prefix: --url http://HOST:PORT/PREFIX. With internal.port, "
                "it is at that port alone.",
                code=1,
            )
        if answer.error is not None:
            unauthorized = response.status == http.client.UNAUTHORIZED
            hint = "Give --api-key, or set FRESHET_API_KEY." if unauthorized else ""
            fail(f"{method}: {answer.error.message}", hint, code=1)
        return answer.result or {}
