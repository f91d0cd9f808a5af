"""What commands use that call the server API of a running Freshet."""

import http.client
import json
import ssl
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
UNKNOWN = 102  # the code of an error: no rule for a channel
RULES = "Channels want a rule: [[channels]] in the server's freshet.toml, or live.channel(...) in Python."
WHERE = "Is `freshet serve` running there? Another place: --url or FRESHET_URL."
TRUST = "One that `freshet cert` made is trusted with its authority: SSL_CERT_FILE=ca.pem in the environment."
NO_HTTP = "there is no answer in plain HTTP", "If TLS is spoken there, begin the URL with https://."
UNENCRYPTED = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")  # reasons of `ssl`: what answered spoke no TLS

Url = Annotated[str, typer.Option(envvar="FRESHET_URL", help="Where Freshet is, with the prefix of its mount.")]
ApiKey = Annotated[
    str | None, typer.Option(help="Default: FRESHET_API_KEY, or \\[api] key in freshet.toml.", show_default=False)
]


def unreachable(error: Exception) -> tuple[str, str]:
    """Why nothing that was understood came from there, and what to do."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted here: {error.verify_message}", TRUST
        case ssl.SSLError(reason=reason) if reason in UNENCRYPTED:
            return "no TLS is spoken there", "Begin the URL with http:// instead."
        case http.client.RemoteDisconnected():
            return NO_HTTP
    return getattr(error, "strerror", None) or str(error) or repr(error), WHERE


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
            why, hint = unreachable(error)
            fail(f"{self._url}: {why}", hint, code=1)
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
            match response.status:
                case http.client.UNAUTHORIZED:
                    fail(answer.error.message, "Give --api-key, or set FRESHET_API_KEY.", code=1)
                case http.client.NOT_FOUND if self._path.endswith(API.rstrip("/")):
                    fail(f"{self._url}: this is the server API itself", "Leave /api out of --url.", code=1)
            fail(f"{method}: {answer.error.message}", code=1)
        return answer.result or {}
