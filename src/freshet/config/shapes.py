"""The shape of the configuration: the type at a path, what is allowed there, and all options for the reference."""

import difflib
import json
import re
import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct, structs

from freshet.config.options import Config
from freshet.errors import ConfigError
from freshet.model.log import History
from freshet.runtime.rates import Rate

TABLES = (History, Rate)  # values that are written as a table
WORDS = {"array": "a list", "object": "a table", "str": "text", "int": "an integer", "float": "a number"}
WORDS |= {"bool": "true or false", "null": "nothing"}
"""What TOML calls the types of JSON and of Python."""
FLAGS = ("host", "port", "workers", "reload", "dev", "log_level", "log_format")  # of the command line


def refuse_unknown(value: Any, kind: Any, path: str) -> None:
    """Names that are no options: msgspec finds them too, but does not say what there is."""
    origin, arguments = bare(kind)
    if origin is list and isinstance(value, list):
        for index, item in enumerate(value):
            refuse_unknown(item, arguments[0], f"{path}[{index}]")
    if not (isinstance(origin, type) and issubclass(origin, Struct) and isinstance(value, dict)):
        return
    hints = _hints(origin)
    for name, item in value.items():
        where = f"{path}.{name}" if path else name
        if name not in hints:
            raise ConfigError(where, f"no such option. {'' if path else _elsewhere(name)}{allowed(name, list(hints))}")
        refuse_unknown(item, hints[name], where)


@cache
def _hints(kind: type[Struct]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _elsewhere(name: str) -> str:
    """Where an option is that does not stand at the top."""
    if name in FLAGS:
        return f"It is for the command line: freshet serve --{name.replace('_', '-')}. "
    found = [option.path for option in reference() if option.path.rpartition(".")[2] == name]
    near = [path for path in found if "[]" not in path] or found
    return f"There is {' and '.join(near)}. " if 0 < len(near) < 4 else ""


def allowed(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return (f"Did you mean {near[0]!r}? " if near else "") + f"Allowed: {', '.join(names)}"


def explain(message: str, path: str, root: type[Struct]) -> str:
    kind = type_at(root, re.sub(r"\[[^]]*\]", "", path).split("."), through_lists=True) if path else None
    origin, arguments = bare(kind)
    if origin is list and path.endswith("]"):
        origin, arguments = bare(arguments[0])
    if origin is Literal:
        return f"{message}. Allowed: {', '.join(map(str, arguments))}"
    if origin in TABLES and "got `object" not in message:
        names = [field.name for field in structs.fields(origin) if field.required]
        table, call = ", ".join(f"{name} = ..." for name in names), ", ".join(f"{name}=..." for name in names)
        found = message.partition(", ")[2] or message
        return f"{_in_words(found)}. Expected {{ {table} }}, in Python {origin.__name__}({call})"
    if origin is list and isinstance(arguments[0], type) and issubclass(arguments[0], Struct):
        return f"{_in_words(message)}. Each is a table with two brackets, [[{path}]]"
    if origin is list:
        return _in_words(message).replace("Expected a list", "Expected a list, [...]")
    return re.sub("(?<=Expected )(a number|an integer)", rf"\1{_unit(kind, path)}", _in_words(message))


def _unit(kind: Any, path: str) -> str:
    """In what it is counted, to be said behind a number; empty where the name says so."""
    metas = (each for each in get_args(kind)[1:] if isinstance(each, Meta))
    units = {"seconds" if path.endswith("ttl") else "", *((meta.extra or {}).get("unit", "") for meta in metas)}
    return next((f" ({unit})" for unit in ("seconds", "bytes") if unit in units), "")


def _in_words(message: str) -> str:
    """What msgspec says, without the types of JSON."""
    message = message.replace("Object missing required field", "missing").replace(" | null`", "`")
    return re.sub(r"`(\w+)`", lambda found: WORDS.get(found[1], found[1]), message)


def bare(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without `Annotated` and `| None`, and its arguments."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        return bare(next(each for each in get_args(kind) if each is not type(None)))
    return get_origin(kind) or kind, get_args(kind)


def type_at(kind: Any, where: list[str], *, through_lists: bool = False) -> Any:
    """The type of an option; None when there is none. through_lists: also of those in a list's tables."""
    for name in where:
        origin, arguments = bare(kind)
        if origin is list and through_lists:
            origin, _ = bare(arguments[0])
        hints = get_type_hints(origin, include_extras=True) if isinstance(origin, type) else {}
        if not (isinstance(origin, type) and issubclass(origin, Struct)) or name not in hints:
            return None
        kind = hints[name]
    return kind


class Option(NamedTuple):
    """One option, for the reference.

    path: `tokens.secret`; a rule's begin with `channels[].`. default: JSON, empty when the option has to be given.
    unit: `bytes`, `seconds`, `count`, or empty.
    """

    path: str
    type: str
    default: str
    unit: str
    doc: str


def reference() -> list[Option]:
    """Every option, in order."""
    return list(options(Config, ""))


def options(struct: type[Struct], path: str) -> Iterator[Option]:
    hints = get_type_hints(struct, include_extras=True)
    for field in structs.fields(struct):
        hint = hints[field.name]
        origin, arguments = bare(hint)
        inner = arguments[0] if origin is list else origin
        if isinstance(inner, type) and issubclass(inner, Struct) and inner not in TABLES:
            yield from options(inner, f"{path}{field.name}{'[]' if origin is list else ''}.")
            continue
        meta = next((each for each in get_args(hint)[1:] if isinstance(each, Meta)), Meta())
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        shown = "" if default is msgspec.NODEFAULT else json.dumps(msgspec.to_builtins(default))
        names = (
            " | ".join(map(json.dumps, arguments)) if origin is Literal else getattr(origin, "__name__", str(origin))
        )
        unit = (meta.extra or {}).get("unit", "")
        yield Option(f"{path}{field.name}", names, shown, unit, meta.description or "")


def paths(struct: type[Struct]) -> Iterator[str]:
    return (option.path for option in options(struct, "") if "[]" not in option.path)
