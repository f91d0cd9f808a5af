"""Who may import whom in `src/freshet`, how long files and functions are, and what the package shows to its users."""

import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.architecture import RULES, Layout, Source, long_files, long_functions
from tests.tools.need import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# An import name, where it is not that of the distribution in pyproject.toml.
IMPORT_NAMES = {
    "nats-py": "nats",
    "opentelemetry-api": "opentelemetry",
    "prometheus-client": "prometheus_client",
    "protobuf": "google",
    "pyjwt": "jwt",
}
IO = frozenset(
    {"asyncio", "http.client", "http.server", "select", "selectors", "socket", "ssl", "threading", "urllib.request"}
)
FOR_OURSELVES = {"docs", "test", "dev"}  # extras that the package itself does not use


def import_names(requirements: list[str]) -> frozenset[str]:
    names = (requirement.partition(";")[0].partition("[")[0].partition(">")[0].strip() for requirement in requirements)
    return frozenset(IMPORT_NAMES.get(name, name) for name in names)


LAYOUT = Layout(
    package="freshet",
    # A new module is entered here, as low as what it imports allows: an import goes down.
    levels=(
        frozenset({"errors", "model"}),
        frozenset({"admission", "channels", "clock", "config", "filters", "flow", "hooks", "websocket", "wheel"}),
        frozenset({"dialects", "engines", "observe", "outbox", "stores"}),
        frozenset({"hub", "listeners", "reading", "session"}),
        frozenset({"policy", "rooms", "transports"}),
        frozenset(
            {
                *("actions", "commands", "dispatch", "events", "kits", "namespaces", "node", "orders", "peers"),
                *("recovery", "subscribing", "surveys"),
            }
        ),
        frozenset({"testing", "web"}),
        frozenset({"app"}),
        frozenset({"__main__", "cli", "demos", "pytest_plugin", "server", "workers"}),
    ),
    sealed=frozenset({0, 2, 4}),
    interfaces_only=frozenset({3}),
    # What the files of a folder on a sealed level share beside their base.
    common={
        "dialects": frozenset({"centrifuge", "engineio", "fossil", "protobuf"}),
        "observe": frozenset({"counts"}),
        "engines": frozenset(
            {
                "info",
                "local_wire",
                "memory",
                "nats_access",
                "nats_form",
                "nats_line",
                "nats_link",
                "nats_logs",
                "nats_presence",
                "nats_streams",
                "redis_line",
                "redis_servers",
                "staying",
                "sweeping",
                "tls",
            }
        ),
        "policy": frozenset({"tokens"}),
        "transports": frozenset({"engineio", "native"}),
    },
    pure=frozenset({"channels", "dialects", "errors", "model", "websocket"}),
    io=IO | {"uvicorn", "uvloop"},
    programs=frozenset({"demos"}),
    required=import_names(PROJECT["dependencies"]),
    optional=import_names(
        [
            requirement
            for extra, requirements in PROJECT["optional-dependencies"].items()
            if extra not in FOR_OURSELVES
            for requirement in requirements
        ]
    ),
    table="LAYOUT.levels in tests/test_architecture.py",
)
FILE_LINES = 500
FUNCTION_LINES = 50


@pytest.fixture(scope="module")
def source() -> Source:
    return Source(ROOT / "src" / "freshet", "freshet")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_has_no(rule: Callable, source: Source) -> None:
    complaints = list(rule(source, LAYOUT))
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize("folder", ["src", "tests", "bench"])
def test_files_and_functions_stay_short(folder: str) -> None:
    files = [path for path in sorted((ROOT / folder).rglob("*.py")) if "node_modules" not in path.parts]
    complaints = [*long_files(files, FILE_LINES), *long_functions(files, FUNCTION_LINES)]
    assert not complaints, "\n" + "\n".join(complaints)


def test_all_is_sorted_and_equals_the_public_names() -> None:
    import freshet

    public = [name for name, value in vars(freshet).items() if not name.startswith("_") and not inspect.ismodule(value)]
    assert freshet.__all__ == sorted(public)


# The rules themselves: each of these trees breaks one, and the complaint says where.

TOY = Layout(
    package="toy",
    levels=(
        frozenset({"model"}),
        frozenset({"config", "options"}),
        frozenset({"engines", "dialects"}),
        frozenset({"hub"}),
        frozenset({"app"}),
        frozenset({"shows"}),
    ),
    sealed=frozenset({0, 2}),
    interfaces_only=frozenset({3}),
    common={"dialects": frozenset({"shared"})},
    pure=frozenset({"dialects"}),
    io=frozenset({"asyncio", "http.client"}),
    programs=frozenset({"shows"}),
    required=frozenset({"msgspec"}),
    optional=frozenset({"redis"}),
    table="TOY",
)
SOUND = {
    "__init__": "from toy.app import App",
    "model": "import dataclasses",
    "config": "import toy.model",
    "options": "from toy import config",
    "engines/base": "from toy.model import X",
    "engines/memory": "from toy.engines.base import Engine\nimport asyncio",
    "engines/remote": "import redis.asyncio, msgspec\nfrom . import base",
    "dialects/__init__": "from toy.dialects.plain import Plain",
    "dialects/base": "from http import HTTPStatus",
    "dialects/shared": "",
    "dialects/plain": "from toy.dialects import base, shared\nfrom toy.engines.base import Engine",
    "hub": "from toy.engines.base import Engine\nfrom toy.config import Config",
    "app": "from toy.engines.memory import Memory\nfrom toy.hub import Hub",
    "shows/clock": "from toy import App\nfrom toy.shows.face import Face",
    "shows/face": "",
}


def complaints_about(folder: Path, changes: dict[str, str]) -> list[str]:
    for name, text in {**SOUND, **changes}.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    source = Source(folder, "toy")
    return [complaint for rule in RULES for complaint in rule(source, TOY)]


def test_a_sound_tree_is_accepted(tmp_path: Path) -> None:
    assert complaints_about(tmp_path, {}) == []


@pytest.mark.parametrize(
    ("module", "text", "complaint"),
    [
        ("news", "", "news has no level: add it to TOY, as low as what it imports allows"),
        ("config", "import toy.hub", "config:1 imports hub: level 1 does not see level 3"),
        ("config", "def f():\n    from toy import hub", "config:2 imports hub: level 1 does not see level 3"),
        (
            "config",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy.hub import Hub",
            "config:3 imports hub: level 1 does not see level 3",
        ),
        ("hub", "from . import app", "hub:1 imports app: level 3 does not see level 4"),
        ("engines/memory", "from ..app import App", "engines.memory:1 imports app: level 2 does not see level 4"),
        ("engines/__init__", "from ..app import App", "engines:1 imports app: level 2 does not see level 4"),
        (
            "engines/memory",
            "from toy.dialects.plain import Plain",
            "engines.memory:1 imports dialects.plain: members of level 2 do not see each other",
        ),
        (
            "engines/memory",
            "from toy.engines import remote",
            "engines.memory:1 imports engines.remote: files of one folder see only its base, and what `common` lists",
        ),
        (
            "hub",
            "from toy.engines.memory import Memory",
            "hub:1 imports engines.memory: level 3 sees interfaces only, engines.base",
        ),
        (
            "hub",
            "from toy import App",
            "hub:1 imports the package itself: import from the module that defines the name",
        ),
        (
            "shows/face",
            "from toy.app import App",
            "shows.face:1 imports app: shows sees the package as its users do, by its public names",
        ),
        ("config", "import toy.options", "cycle: config -> options -> config"),
        ("engines/base", "import toy.engines.memory", "cycle: engines.base -> engines.memory -> engines.base"),
        ("hub", "import toy.hub", "cycle: hub -> hub"),
        ("dialects/base", "import asyncio.queues", "dialects.base:1 imports asyncio.queues: dialects does no I/O"),
        ("dialects/base", "from http.client import X", "dialects.base:1 imports http.client.X: dialects does no I/O"),
        (
            "app",
            "import flask.json",
            "app:1 imports flask.json: flask is neither a dependency nor an extra in pyproject.toml",
        ),
        ("app", "from redis import Redis", "redis is optional: one file imports it, not app, engines.remote"),
    ],
)
def test_a_broken_tree_is_refused(tmp_path: Path, module: str, text: str, complaint: str) -> None:
    assert complaint in complaints_about(tmp_path, {module: text})


def test_folders_that_see_each_other_are_refused(tmp_path: Path) -> None:
    changes = {
        "config/__init__": "",
        "config/a": "import toy.options",
        "config/b": "",
        "options": "import toy.config.b",
    }
    (tmp_path / "config.py").touch()
    found = complaints_about(tmp_path, changes)
    assert "cycle: config -> options -> config" in found


@pytest.mark.parametrize(("lines", "refused"), [(FILE_LINES - 1, False), (FILE_LINES, True)])
def test_a_file_is_refused_from_the_limit_on(tmp_path: Path, lines: int, refused: bool) -> None:
    path = tmp_path / "long.py"
    path.write_text("x = 1\n" * lines)
    assert bool(list(long_files([path], FILE_LINES))) is refused


@pytest.mark.parametrize(("lines", "refused"), [(FUNCTION_LINES - 1, False), (FUNCTION_LINES, True)])
@pytest.mark.parametrize("head", ["def f():", "async def f():", "class A:\n  def f():"])
def test_a_function_is_refused_from_the_limit_on(tmp_path: Path, head: str, lines: int, refused: bool) -> None:
    path = tmp_path / "long.py"
    docstring = '    """One\n\n    two\n    three"""\n'
    path.write_text(f"{head}\n{docstring}" + "    x = 1\n" * (lines - 1))
    assert bool(list(long_functions([path], FUNCTION_LINES))) is refused
