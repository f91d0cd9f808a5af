"""`make audit`, with a stand-in for pip-audit that says what each source knows."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tools.audit import pins_of
from tests.tools.need import ROOT

STAND_IN = """#!{python}
import json, pathlib, sys
flags = dict(zip(sys.argv[1::1], sys.argv[2::1]))
pins = pathlib.Path(flags["--requirement"]).read_text().split()
known = {known}[flags["--vulnerability-service"]]
if known is None:
    sys.exit("ConnectionError: name or service not known")
found = []
for pin in pins:
    name, _, version = pin.partition("==")
    if name not in known:
        found.append({{"name": name, "skip_reason": "not found"}})
    else:
        advisories = [{{"id": id, "aliases": ["CVE"], "fix_versions": ["2"]}} for id in known[name]]
        found.append({{"name": name, "version": version, "vulns": advisories}})
pathlib.Path(flags["--output"]).write_text(json.dumps({{"dependencies": found, "fixes": []}}))
sys.exit(any(each.get("vulns") for each in found))
"""
CLEAN: dict[str, list[str]] = {"alpha": [], "beta": [], "gamma": []}
Audit = Callable[[Any, Any], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """Run it: what `pypi` and `osv` know, None for what cannot be reached."""
    (tmp_path / "one.txt").write_text("alpha==1.0 \\\n    --hash=sha256:00\nbeta==2 ; sys_platform == 'win32' \\\n")
    (tmp_path / "two.txt").write_text("alpha==1.0\ngamma==3\n")

    def run(pypi: Any, osv: Any) -> "subprocess.CompletedProcess[str]":
        tool = tmp_path / "pip-audit"
        tool.write_text(STAND_IN.format(python=sys.executable, known={"pypi": pypi, "osv": osv}))
        tool.chmod(0o700)
        command = [sys.executable, str(ROOT / "tests/tools/audit.py"), str(tool), *map(str, tmp_path.glob("*.txt"))]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_every_pin_is_audited_once_whatever_its_system(tmp_path: Path, audit: Audit) -> None:
    assert pins_of(sorted(tmp_path.glob("*.txt"))) == ["alpha==1.0", "beta==2", "gamma==3"]
    done = audit(CLEAN, None)
    assert done.returncode == 0
    assert "pypi: 3 packages audited, 0 vulnerabilities known" in done.stdout


@pytest.mark.parametrize("pypi", [None, {}], ids=["away", "knows nothing"])
def test_a_source_that_cannot_tell_is_left_for_the_next(audit: Audit, pypi: Any) -> None:
    done = audit(pypi, {**CLEAN, "gamma": ["GHSA-1"]})
    assert done.returncode == 1
    assert "gamma 3: GHSA-1 (CVE), repaired in 2" in done.stdout


def test_without_any_source_it_is_no_failure_and_no_all_clear(audit: Audit) -> None:
    done = audit(None, {})
    assert done.returncode == 0
    assert "NOT AUDITED" in done.stdout
    assert "0 vulnerabilities" not in done.stdout


def test_a_known_vulnerability_fails_and_is_named(audit: Audit) -> None:
    done = audit({**CLEAN, "beta": ["PYSEC-2"]}, None)
    assert done.returncode == 1
    assert "beta 2: PYSEC-2" in done.stdout


def test_packages_that_the_source_does_not_know_are_named(audit: Audit) -> None:
    done = audit({"alpha": [], "beta": []}, None)
    assert done.returncode == 0
    assert "pypi does not know gamma" in done.stdout


def test_all_that_is_pinned_is_audited_by_ci() -> None:
    assert "requirements/*.txt" in (ROOT / "Makefile").read_text()
    assert "make audit" in (ROOT / ".ci/run").read_text()
