"""What `make audit` runs: pip-audit on pinned requirements, by the first source of advisories that can be reached.

Ends with 1 when a vulnerability is known, and with 0 when there is none, or when no source can be reached, which it
says. pip-audit itself ends with 0 also for packages that its source does not know: so its report is looked at, and a
source is asked for one package first.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

SOURCES = ("pypi", "osv")  # of pip-audit's --vulnerability-service
TIMEOUT = "15"  # seconds


class Report(NamedTuple):
    """audited: how many packages. found: `name version: advisory`."""

    audited: int
    skipped: list[str]
    found: list[str]


def ask(tool: str, source: str, requirements: str) -> Report | None:
    """What a source knows of pinned requirements; None: it could not be asked."""
    with tempfile.TemporaryDirectory() as folder:
        pins, report = Path(folder, "pins.txt"), Path(folder, "report.json")
        pins.write_text(requirements)
        command = [tool, "--vulnerability-service", source, "--requirement", str(pins), "--disable-pip", "--no-deps"]
        command += ["--timeout", TIMEOUT, "--progress-spinner", "off", "--format", "json", "--output", str(report)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not report.exists() or not report.read_text():
            print(f"{source}: {(done.stderr.strip().splitlines() or ['no answer'])[-1][:200]}")
            return None
        return _read(json.loads(report.read_text()))


def _read(report: dict[str, Any]) -> Report:
    known = [each for each in report["dependencies"] if "skip_reason" not in each]
    skipped = [each["name"] for each in report["dependencies"] if "skip_reason" in each]
    found = [
        f"{each['name']} {each['version']}: {advisory['id']} ({', '.join(advisory['aliases'])}), "
        f"repaired in {', '.join(advisory['fix_versions']) or 'no version yet'}"
        for each in known
        for advisory in each["vulns"]
    ]
    return Report(len(known), skipped, found)


def pins_of(files: Sequence[Path]) -> list[str]:
    """`name==version` of all files, without markers and hashes: what is pinned for any system."""
    lines = (line.strip() for path in files for line in path.read_text().splitlines())
    return sorted({line.split(";")[0].split("\\")[0].strip() for line in lines if "==" in line.split(";")[0]})


def main(tool: str, files: Sequence[Path]) -> int:
    pins = pins_of(files)
    for source in SOURCES:
        probe = ask(tool, source, pins[0] + "\n")
        if probe is None or not probe.audited:
            continue
        report = ask(tool, source, "\n".join(pins) + "\n")
        if report is None:
            return 1  # it answered a moment ago
        print(f"{source}: {report.audited} packages audited, {len(report.found)} vulnerabilities known")
        for name in report.skipped:
            print(f"{source} does not know {name}")
        print("\n".join(report.found))
        return 1 if report.found else 0
    print("NOT AUDITED: no source of advisories can be reached from here")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], [Path(name) for name in sys.argv[2:]]))
