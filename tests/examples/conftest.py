"""Fixtures of the tests of the examples."""

from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest
from selenium import webdriver

from tests.tools.need import ROOT
from tests.tools.pages import Opened, windows


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], Path]:
    """`example("script")`: a copy of that example, in which it may leave what it likes."""
    leave_out = ignore_patterns("node_modules", "dist", "queue", "*.db")
    return lambda name: Path(copytree(ROOT / "examples" / name, tmp_path / name, ignore=leave_out))


@pytest.fixture
def window(browser: webdriver.Chrome) -> Iterator[Opened]:
    with windows(browser) as opened:
        yield opened
