"""What was read of a WebSocket API, to be written as `[gateway]`."""

import json
from typing import Any


class Described:
    """folder: of the description, from which its paths go. notes: what was not taken over."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.stage = "dev"
        self.selection = "$request.body.action"
        self.auth = "none"
        self.authorizer: dict[str, Any] | None = None
        self.variables: dict[str, str] = {}
        self.routes: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        line = " ".join(text.split())
        if line not in self.notes:
            self.notes.append(line)

    def options(self) -> dict[str, Any]:
        """As `live.gateway(**options)` takes them."""
        options: dict[str, Any] = {"stage": self.stage, "selection": self.selection, "auth": self.auth}
        if self.variables:
            options["variables"] = self.variables
        if self.authorizer is not None:
            options["authorizer"] = self.authorizer
        return {**options, "routes": self.routes}

    def toml(self) -> str:
        lines = [f"# Not taken over: {note}" for note in self.notes]
        lines += ["", "[gateway]"] if lines else ["[gateway]"]
        lines += [f"{name} = {_value(getattr(self, name))}" for name in ("stage", "selection", "auth")]
        if self.variables:
            lines.append(f"variables = {_value(self.variables)}")
        if self.authorizer is not None:
            lines += ["", "[gateway.authorizer]", *_pairs(self.authorizer)]
        for route in self.routes:
            lines += ["", "[[gateway.routes]]", *_pairs(route)]
        return "\n".join(lines) + "\n"


def _pairs(table: dict[str, Any]) -> list[str]:
    return [f"{name} = {_value(value)}" for name, value in table.items()]


def _value(value: Any) -> str:
    """As TOML has it: what JSON escapes, it does in the same way."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(str(name))} = {_value(each)}" for name, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
