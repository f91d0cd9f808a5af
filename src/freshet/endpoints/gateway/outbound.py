"""Routes that go out over HTTP: with AWS's proxy event, in a form of our own, or as AWS's HTTP_PROXY has it."""

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from freshet.config.gateway import GatewayIntegration
from freshet.endpoints.gateway.integrations import (
    SUBPROTOCOL,
    Integration,
    IntegrationFailed,
    IntegrationResult,
    Occurrence,
)
from freshet.errors import ConfigError
from freshet.policy.http_client import httpx_for
from freshet.policy.webhook_client import sign
from freshet.rules.hooks import HookLimits
from freshet.runtime.clock import Clock

if TYPE_CHECKING:
    from freshet.policy.http_client import AsyncClient

ANSWER = 6 * 1024 * 1024  # bytes that are read
HEADER, QUERY = "integration.request.header.", "integration.request.querystring."
CONTEXT, BODY, VARIABLES = "context.", "route.request.body.", "stageVariables."


class HttpBackEnd(Integration):
    """The back end's status and body are the answer.

    keys: sign the requests as Standard Webhooks says, if there are any.
    """

    def __init__(self, options: GatewayIntegration, keys: Sequence[bytes], clock: Clock) -> None:
        parts = urlsplit(options.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("gateway", f"url: expected https://... or http://..., got {options.url!r}")
        for target, source in options.parameters.items():
            _check(target, source)
        self.name = options.url
        self.limits = HookLimits(options.timeout)
        self._options = options
        self._keys = keys
        self._clock = clock
        self._httpx = httpx_for("gateway.routes[].url")
        self._http: AsyncClient | None = None

    def start(self) -> None:
        count = self._options.concurrency
        limits = self._httpx.Limits(max_connections=count, max_keepalive_connections=count)
        self._http = self._httpx.AsyncClient(timeout=None, limits=limits, follow_redirects=False)

    async def stop(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def __call__(self, *arguments: Any, **named: Any) -> IntegrationResult:
        if self._http is None:
            raise IntegrationFailed("the server is not running")
        occurrence: Occurrence = arguments[0]
        whole = self._options.payload == "event"
        body = msgspec.json.encode(occurrence.event) if whole else occurrence.data
        headers = {"content-type": "application/json"} | self._signature(body)
        query = {}
        for target, source in self._options.parameters.items():
            value = _value(source, occurrence.event)
            if target.startswith(HEADER):
                headers[target.removeprefix(HEADER)] = value
            else:
                query[target.removeprefix(QUERY)] = value
        answer = bytearray()
        try:
            async with self._http.stream(
                "POST", self._options.url, content=body, headers=headers, params=query or None
            ) as response:
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) > ANSWER:
                        raise IntegrationFailed(f"it answered with more than {ANSWER} bytes")
        except (self._httpx.HTTPError, ValueError) as error:
            raise IntegrationFailed(f"{type(error).__name__} {error}") from error
        chosen = response.headers.get(SUBPROTOCOL, "")
        return IntegrationResult(response.status_code, bytes(answer), False, chosen)

    def _signature(self, body: bytes) -> dict[str, str]:
        if not self._keys:
            return {}
        id, timestamp = f"msg_{secrets.token_hex(12)}", int(self._clock.wall())
        return {
            "webhook-id": id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(sign(key, id, timestamp, body) for key in self._keys),
        }


def _check(target: str, source: str) -> None:
    if not target.startswith((HEADER, QUERY)):
        raise ConfigError("gateway", f"parameters: {target!r}: expected {HEADER}... or {QUERY}...")
    if not (source.startswith((CONTEXT, BODY, VARIABLES)) or (source[:1] == source[-1:] == "'" and len(source) > 1)):
        raise ConfigError("gateway", f"parameters: {source!r}: expected context..., {BODY}... or a text in '")


def _value(source: str, event: Mapping[str, Any]) -> str:
    """Of a mapping, as one line: what is in a message is no header of its own."""
    if source.startswith("'"):
        return source[1:-1]
    found: Any
    if source.startswith(BODY):
        try:
            found = msgspec.json.decode(event.get("body", ""))
        except (msgspec.MsgspecError, RecursionError):
            found = None
        path = source.removeprefix(BODY)
    elif source.startswith(CONTEXT):
        found, path = event["requestContext"], source.removeprefix(CONTEXT)
    else:
        found, path = event.get("stageVariables", {}), source.removeprefix(VARIABLES)
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if found is None:
        return ""
    text = found if isinstance(found, str) else msgspec.json.encode(found).decode()
    return "".join(each if each.isascii() and each.isprintable() else "?" for each in text)
