"""`make autobahn` as a test. The environment is made at the first run."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.need import require


@pytest.mark.timeout(180)
def test_no_case_of_the_autobahn_suite_fails() -> None:
    require("python2.7")
    run = subprocess.run(
        [sys.executable, Path(__file__).with_name("run.py")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
