"""Importing the application that `freshet serve MODULE:APP` names, and saying what is wrong with it: the lines of the
user's own files first, not ours, and not those of whatever lies between."""

import inspect
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from uvicorn.importer import ImportFromStringError, import_from_string

from freshet.app import Freshet
from freshet.cli.console import fail
from freshet.errors import ConfigError

SHAPE = "Expected MODULE:APP, such as app:api for `api` in app.py."
CONFIGURATION = "A configuration goes with --config; freshet.toml of this folder is read without it."
OURS = Path(__file__).parents[1]
LIBRARIES = (OURS, *(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")))


def application(target: str) -> Any:
    """The ASGI application itself. Whatever goes wrong ends the command: what, where, and what is expected."""
    sys.path.insert(0, "")
    try:
        found = import_from_string(target)
    except ImportFromStringError as error:
        fail(f"{target}: {error}", CONFIGURATION if target.endswith(".toml") else SHAPE)
    except Exception as error:
        fail(_of_the_user(target, error), "Nothing was served: repair that, and start again.", code=1)
    if not callable(found):
        fail(f"{target} is {type(found).__name__}, no application{_others(target, found)}", SHAPE)
    return found


def mounted(app: Any, base: str) -> str:
    """Where in it Freshet is, to be said beside its address, which is base."""
    routes = getattr(app, "routes", ())
    below = [f"{base}{it.path}/" for it in routes if isinstance(getattr(it, "app", None), Freshet) and it.path]
    return f", with Freshet at {' and '.join(below)}" if below else ""


def _others(target: str, found: Any) -> str:
    """What else in that module could be meant."""
    module = sys.modules.get(target.partition(":")[0])
    names = _applications(module) if module else []
    return f". In {module.__name__} there is: {', '.join(names)}" if module and names else ""


def _applications(module: ModuleType) -> list[str]:
    """Names of what looks like an ASGI application: an object that is called with scope, receive and send."""
    called = ((name, inspect.getattr_static(type(value), "__call__", None)) for name, value in vars(module).items())
    return [
        name
        for name, function in called
        if function is not None and inspect.iscoroutinefunction(function) and not name.startswith("_")
    ]


def _of_the_user(target: str, error: Exception) -> str:
    """The error as Python shows it, with the frames of the user's files alone."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(frame.filename)]
    lines = traceback.format_list(frames) + traceback.format_exception_only(error)
    if isinstance(error, ConfigError | TypeError):  # ours, or as good as ours: the message is what there is to know
        lines[len(frames) :] = [f"{error}\n"]
    return f"{target} cannot be imported:\n{''.join(lines).rstrip()}"


def _is_theirs(filename: str) -> bool:
    path = Path(filename)
    return path.is_file() and not any(path.is_relative_to(folder) for folder in LIBRARIES)
