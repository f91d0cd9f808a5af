"""Tools that are not Python packages: a test names what it needs, and is skipped by that name where it is missing.

With `CI=true` a missing tool fails the test instead, so that nothing stays untested unnoticed.
"""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
NODE = TESTS / "node"

# Skipped by name even where CI=true: too old to be expected anywhere; suites that no registry has.
NEVER_EXPECTED = {"python2.7", "the tests of centrifuge-js", "the tests of socket.io"}


def require(tool: str) -> str:
    """The path of the command `tool`; without it, the calling test is skipped or, where CI=true, fails."""
    path = find(tool)
    if path is None:
        missing(tool)
    return path


def require_npm_packages(folder: Path = NODE) -> Path:
    """`folder` with its npm packages installed: `tests/node` is where `node script.mjs` finds the clients."""
    require("node")
    if not (folder / "node_modules").is_dir():
        missing(f"npm packages of {folder.relative_to(ROOT)}")
    return folder


def require_suite(project: str) -> Path:
    """The folder with the tests of another project: in `build/suites`, or where `FRESHET_SUITES` says."""
    folder = Path(os.environ.get("FRESHET_SUITES", ROOT / "build" / "suites")) / project
    if not folder.is_dir():
        missing(f"the tests of {project}")
    return folder


def missing(tool: str) -> "pytest.NoReturn":
    message = f"needs {tool}, which is not installed (`make tools` tries)"
    if os.environ.get("CI") == "true" and tool not in NEVER_EXPECTED:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@cache
def find(tool: str) -> str | None:
    """The path of a command that runs, or None."""
    places = [shutil.which(tool)]
    if tool == "python2.7":
        home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
        places = [*map(str, home.glob("versions/2.7*/bin/python2.7")), *places]
    if tool in ("postgres", "initdb"):  # Debian has them on nobody's path
        places += map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{tool}"))
    return next((place for place in places if place and runs(place)), None)


def runs(path: str) -> bool:
    """Whether the command starts: what pyenv puts on the path may only say that there is no such version."""
    for asked in ("--version", "-v", "version"):
        if subprocess.run([path, asked], capture_output=True, check=False).returncode == 0:
            return True
    return False
