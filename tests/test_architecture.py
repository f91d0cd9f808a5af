"""Who may import whom in `src/freshet`, how long files and functions are, and what the package shows to its users."""

import ast
import re
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from tests.tools.architecture import RULES, Layout, Level, Source, fans, floors, long_files, long_functions, with_table
from tests.tools.need import ROOT

PACKAGE = ROOT / "src" / "freshet"
PAGE = ROOT / "CONTRIBUTING.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# An import name, where it is not that of the distribution in pyproject.toml.
IMPORT_NAMES = {
    "markdown-it-py": "markdown_it",
    "nats-py": "nats",
    "opentelemetry-api": "opentelemetry",
    "prometheus-client": "prometheus_client",
    "protobuf": "google",
    "pyjwt": "jwt",
    "pyyaml": "yaml",
}
IO = frozenset(
    {"asyncio", "http.client", "http.server", "select", "selectors", "socket", "ssl", "threading", "urllib.request"}
)
BEHIND = (
    "dialects",
    "engines",
    "stores",
)  # known above by their interfaces, until endpoints and the application choose
FOR_OURSELVES = {"docs", "test", "dev", "bench"}  # extras that the package itself does not use


def import_names(requirements: list[str]) -> frozenset[str]:
    names = (re.match(r"[A-Za-z0-9_.-]+", requirement) for requirement in requirements)
    return frozenset(IMPORT_NAMES.get(name[0], name[0]) for name in names if name)


LAYOUT = Layout(
    package="freshet",
    levels=(
        Level(
            names=("errors", "model", "runtime", "observe"),
            about="the values that every layer speaks; time, tasks, admission; what a node counts",
        ),
        Level(
            names=("config", "websocket", "rules"),
            about="options, and the rules of channels made of them; the WebSocket codec without I/O",
        ),
        Level(
            names=("dialects", "engines", "stores"),
            apart=True,
            about="client protocols without I/O; the logs behind channels; what rooms keep. A folder within sees "
            "itself and what stands flat beside it",
        ),
        Level(
            names=("session",),
            interfaces=BEHIND,
            about="one client, and what waits for it. Knows interfaces only",
        ),
        Level(
            names=("transports", "hub", "policy"),
            apart=True,
            interfaces=BEHIND,
            about="the network; who is subscribed to what, and the fan-out; may this run?",
        ),
        Level(
            names=("node",),
            interfaces=BEHIND,
            about="one process: its parts, and the bus to the other nodes",
        ),
        Level(
            names=("commands",),
            interfaces=BEHIND,
            about="one function per command, and what runs them",
        ),
        Level(
            names=("ownership",),
            interfaces=BEHIND,
            about="which node has what for itself, and the way there",
        ),
        Level(
            names=("rooms", "runs"),
            apart=True,
            interfaces=BEHIND,
            about="durable actors behind channels, one of each in the cluster; tasks that outlive who began them",
        ),
        Level(
            names=("endpoints", "api", "ops"),
            apart=True,
            about="what hangs on URLs: clients' protocols, the server API, health and metrics. Given what they need, "
            "never the application",
        ),
        Level(
            names=("wiring", "app"),
            about="which engine and store an URL names; wires all below, is the ASGI callable",
        ),
        Level(
            names=("kits",),
            public=True,
            about="rooms that are ready for use: written as users write, and public themselves",
        ),
        Level(names=("demos", "contrib"), public=True, about="written as users write: they see the public names"),
        Level(
            names=("testing", "serving", "load", "cli", "__main__", "pytest_plugin"),
            about="what runs it, tests it, and measures it",
        ),
    ),
    pure=frozenset({"rules", "dialects", "errors", "model", "websocket"}),
    io=IO | {"uvicorn", "uvloop"},
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
FLAT = 8  # modules at the root of the package
FLOORS = 14
NODE_USERS = 8

# Where Socket.IO may be named: its own folders, and the tables that register it.
WING = re.compile(r"/socketio/|endpoints/router\.py|/app\.py|demos/|cli/|__init__\.py")


@pytest.fixture(scope="module")
def source() -> Source:
    return Source(PACKAGE, "freshet")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_has_no(rule: Callable, source: Source) -> None:
    complaints = list(rule(source, LAYOUT))
    assert not complaints, "\n" + "\n".join(complaints)


def test_the_house_is_not_higher_and_its_ground_floor_not_wider_than_planned(source: Source) -> None:
    assert max(floors(source).values()) <= FLOORS
    assert len(list(PACKAGE.glob("*.py"))) <= FLAT
    assert len(fans(source)["node.node"]) <= NODE_USERS


def test_one_client_protocol_is_named_in_its_own_wing_only() -> None:
    named = re.compile(r"socket\.?io|engine\.?io", re.IGNORECASE)
    files = [path for path in PACKAGE.rglob("*.py") if named.search(path.read_text())]
    assert [str(path) for path in files if not WING.search(str(path))] == []


def test_contributing_shows_the_levels_as_they_are_tested() -> None:
    page = PAGE.read_text()
    assert page == with_table(page, LAYOUT), "python -m tests.tools.architecture --write"


@pytest.mark.parametrize("folder", ["src", "tests", "bench"])
def test_files_and_functions_stay_short(folder: str) -> None:
    files = [path for path in sorted((ROOT / folder).rglob("*.py")) if "node_modules" not in path.parts]
    written = [path for path in files if not path.name.endswith("_pb2.py")]  # not generated
    complaints = [*long_files(written, FILE_LINES), *long_functions(written, FUNCTION_LINES)]
    assert not complaints, "\n" + "\n".join(complaints)


def test_all_is_sorted_and_equals_the_public_names(source: Source) -> None:
    import freshet

    seen_by_type_checkers = {
        alias.name: node.module
        for node in ast.walk(source.trees[""])
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("freshet.")
        for alias in node.names
    }
    assert seen_by_type_checkers == freshet._HOMES
    assert freshet.__all__ == sorted(seen_by_type_checkers)
    assert set(freshet.__all__) <= set(dir(freshet))
    for name in freshet.__all__:
        assert getattr(freshet, name) is getattr(import_module(freshet._HOMES[name]), name)


def test_a_name_that_is_not_public_is_refused() -> None:
    import freshet

    with pytest.raises(AttributeError, match="module 'freshet' has no attribute 'Freshets'"):
        freshet.Freshets  # noqa: B018


# The rules themselves: each of these trees breaks one, and the complaint says where.

TOY = Layout(
    package="toy",
    levels=(
        Level(names=("model", "errors"), about=""),
        Level(names=("config", "options"), about=""),
        Level(names=("engines", "dialects"), about="", apart=True),
        Level(names=("hub",), about="", interfaces=("engines",)),
        Level(names=("web", "api"), about="", apart=True),
        Level(names=("engine_choice", "app"), about="wires all below, and is the ASGI callable"),
        Level(names=("shows",), about="", public=True),
    ),
    pure=frozenset({"dialects"}),
    io=frozenset({"asyncio", "http.client"}),
    required=frozenset({"msgspec"}),
    optional=frozenset({"redis"}),
    table="TOY",
)
SOUND = {
    "__init__": "from toy.app import App",
    "model": "import dataclasses",
    "errors": "import toy.model",
    "config": "import toy.model",
    "options": "from toy import config",
    "engines/base": "from toy.model import X",
    "engines/memory": "from toy.engines.base import Engine\nimport asyncio",
    "engines/disk": "from toy.engines.memory import Memory\nclass Disk: ...",
    "engines/far/__init__": "",
    "engines/far/engine": "from . import wire\nfrom toy.engines import base, memory\nimport redis",
    "engines/far/wire": "import redis.asyncio, msgspec",
    "engines/near/engine": "from toy.engines.base import Engine",
    "dialects/__init__": "from toy.dialects.plain import Plain",
    "dialects/base": "from http import HTTPStatus",
    "dialects/plain": "from toy.dialects import base",
    "hub": "from toy.engines.base import Engine\nfrom toy.config import Config",
    "web": "from toy.dialects.plain import Plain\nfrom toy.hub import Hub",
    "api": "from toy.hub import Hub",
    "app": "from toy.engines.far.engine import Engine\nfrom toy.hub import Hub\nimport toy.web",
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
        ("hub", "from . import app", "hub:1 imports app: level 3 does not see level 5"),
        ("engines/memory", "from ..app import App", "engines.memory:1 imports app: level 2 does not see level 5"),
        ("engines/base", "import toy.app", "engines.base:1 imports app: level 2 does not see level 5"),
        (
            "engines/memory",
            "from toy.dialects.plain import Plain",
            "engines.memory:1 imports dialects.plain: members of level 2 do not see each other",
        ),
        (
            "dialects/plain",
            "from toy.engines.base import Engine",
            "dialects.plain:1 imports engines.base: members of level 2 do not see each other",
        ),
        (
            "engines/near/engine",
            "from toy.engines.far.wire import Wire",
            "engines.near.engine:1 imports engines.far.wire: folders within a folder do not see each other",
        ),
        (
            "engines/memory",
            "from toy.engines.far.wire import Wire",
            "engines.memory:1 imports engines.far.wire: folders within a folder do not see each other",
        ),
        ("web", "import toy.api", "web:1 imports api: members of level 4 do not see each other"),
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
            "shows.face:1 imports app: it sees the package as its users do, by its public names",
        ),
        ("config", "import toy.options", "cycle: config -> options -> config"),
        ("engines/base", "import toy.engines.memory", "cycle: engines.base -> engines.memory -> engines.base"),
        ("hub", "import toy.hub", "cycle: hub -> hub"),
        ("hub", "class Disk: ...", "class Disk is defined by engines.disk, hub: a name belongs to one"),
        ("dialects/base", "import asyncio.queues", "dialects.base:1 imports asyncio.queues: dialects does no I/O"),
        ("dialects/base", "from http.client import X", "dialects.base:1 imports http.client.X: dialects does no I/O"),
        (
            "app",
            "import flask.json",
            "app:1 imports flask.json: flask is neither a dependency nor an extra in pyproject.toml",
        ),
        ("app", "from redis import Redis", "redis is optional: one place imports it, not app, engines.far"),
    ],
)
def test_a_broken_tree_is_refused(tmp_path: Path, module: str, text: str, complaint: str) -> None:
    assert complaint in complaints_about(tmp_path, {module: text})


def test_the_highest_floor_is_that_of_the_longest_way_down(tmp_path: Path) -> None:
    complaints_about(tmp_path, {})
    found = floors(Source(tmp_path, "toy"))
    assert found["model"] == 1
    assert found["hub"] == 3
    assert found["app"] == 5
    assert found[""] == 6
    assert found["shows"] == 7


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
