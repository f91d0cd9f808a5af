"""Route selection expressions: which key a message has, by what is in it.

`$request.body.action`, `${request.body.a.b}`, several of them in one text, a static word; `\\$default` is `$default`.
Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/websocket-api-develop-routes.html
"""

import re
from functools import cache
from typing import Any, cast

import msgspec

from freshet.errors import ConfigError
from freshet.model.json_text import decode

CONNECT, DISCONNECT, DEFAULT = "$connect", "$disconnect", "$default"
RESERVED = frozenset({CONNECT, DISCONNECT})

_PATH = re.compile(r"\$\{request\.body\.([\w-]+(?:\.[\w-]+)*)\}|\$request\.body\.([\w-]+(?:\.[\w-]+)*)")
_DOLLAR = r"\$"

Part = str | tuple[str, ...]


class Selection:
    """An expression. Raises ConfigError for one that cannot be evaluated."""

    def __init__(self, expression: str) -> None:
        self._parts = _parse(expression)
        first = self._parts[0] if len(self._parts) == 1 else ""
        # Most name one member: nothing else of a message is decoded, only checked.
        only = first[0] if isinstance(first, tuple) and len(first) == 1 else ""
        self._only = msgspec.json.Decoder(_member(only)).decode if only else None

    def key(self, body: bytes) -> str:
        """The key of a message; empty: it has none, as it is no JSON, or what is named is not in it."""
        if self._only is not None:
            try:
                return _text(self._only(body).value)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                pass  # other readers take more, such as half of a character
        try:
            decoded = decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return ""
        return "".join(part if isinstance(part, str) else _text(_find(decoded, part)) for part in self._parts)


@cache
def _member(name: str) -> Any:
    return msgspec.defstruct("Body", [("value", Any, None)], rename={"value": name})


def _parse(expression: str) -> list[Part]:
    parts: list[Part] = []
    at = 0
    for match in _PATH.finditer(expression):
        if expression[: match.start()].endswith("\\"):
            continue
        parts.append(expression[at : match.start()])
        parts.append(tuple(cast(str, match[1] or match[2]).split(".")))
        at = match.end()
    parts.append(expression[at:])
    for part in parts:
        if isinstance(part, str) and "$" in part.replace(_DOLLAR, ""):
            raise ConfigError("gateway.selection", f"{part!r}: expected `$request.body.name`, `${{request.body.name}}`")
    texts = [part.replace(_DOLLAR, "$") if isinstance(part, str) else part for part in parts]
    return [part for part in texts if part] or [""]


def _find(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _text(value: Any) -> str:
    """What has no text of its own, such as an object, selects nothing."""
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode() if isinstance(value, bool | int | float) else ""
