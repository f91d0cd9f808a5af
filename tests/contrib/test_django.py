"""Sessions of a real Django, in each of its stores: who is logged in there gets in, and nobody else."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.need import ROOT

STORES = ["db", "cache", "cached_db", "file", "signed_cookies"]


@pytest.mark.parametrize("store", STORES)
def test_who_is_logged_in_in_django_gets_in_by_its_cookie_and_nobody_else(store: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.contrib.site", str(tmp_path), f"django.contrib.sessions.backends.{store}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
