"""Nothing that we say installs the `freshet` of PyPI, which is another project."""

import re
from pathlib import Path

import pytest

from tests.tools.need import ROOT

BY_NAME = re.compile(r"pip install[^`\n&|,]*?[\s'\"]freshet(?![\w/.-])")
PLACES = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "Makefile", "docs/**/*.md", "examples/**/*.md", "src/**/*.py")
FILES = [
    path
    for place in (*PLACES, "src/**/templates/**/*.*", "deploy/**/*.*")
    for path in sorted(Path(ROOT).glob(place))
    if not {"node_modules", "__pycache__"} & set(path.parts)
]


def test_nothing_is_installed_by_that_name() -> None:
    found = {str(path.relative_to(ROOT)): BY_NAME.findall(path.read_text("utf-8")) for path in FILES}
    assert len(found) > 300
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line", ["pip install freshet", "pip install 'freshet[redis]'", "pip install -U freshet nats-py"]
)
def test_what_would_install_it_is_found(line: str) -> None:
    assert BY_NAME.search(line)


@pytest.mark.parametrize(
    "line", ["pip install path/to/freshet", "pip install './freshet[redis]'", "pip install ./freshet-*.whl"]
)
def test_what_installs_ours_is_not(line: str) -> None:
    assert not BY_NAME.search(line)
