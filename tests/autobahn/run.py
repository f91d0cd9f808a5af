"""The Autobahn suite against our WebSocket: `make autobahn`. Its exit code is 1 if a case failed.

The suite is Python 2 code. Its environment is made once, in `.cache/autobahn27`; the reports are in
`tests/autobahn/reports`, from `index.html` on.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.tools.need import find  # noqa: E402
from tests.tools.patience import seconds  # noqa: E402

CACHE = ROOT / ".cache"
ENVIRONMENT = CACHE / "autobahn27"
REPORTS = Path(__file__).parent / "reports"
AGENT = "freshet"

# pip's arguments, one call each, in this order.
INSTALLS = [
    "incremental==16.10.1",
    (
        "txaio==2.1.0 zope.interface==4.6.0 six==1.16.0 constantly==15.1.0 Automat==0.8.0 hyperlink==20.0.1"
        " attrs==21.4.0 PyHamcrest==1.10.1"
    ),
    "--no-build-isolation Twisted==19.10.0",
    (
        "jinja2==2.11.3 markupsafe==1.1.1 Werkzeug==1.0.1 klein==17.10.0 unittest2==1.1.0 cryptography==3.3.2"
        " pyOpenSSL==19.1.0 service_identity==18.1.0 wsaccel==0.6.2"
    ),
    "--no-deps autobahn==0.10.9 autobahntestsuite==25.10.1",
]

# Of compression the first three sizes of each group: all sizes take more than 20 minutes. The suite takes `12.1.1*` for
# 12.1.10 too, so only whole groups have a star.
GROUPS = {
    "core": ([f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 10)], 247),
    "limits": (["9.*"], 54),
    "compression": (
        [
            f"{group}.{options}.{size}"
            for group, last in ((12, 5), (13, 7))
            for options in range(1, last + 1)
            for size in (1, 2, 3)
        ],
        36,
    ),
}
FAILED = {"FAILED", "UNCLEAN", "WRONG CODE"}
# A window of 512 bytes is all that these offer, which is declined: one compressed form, of 4 KiB, serves all clients.
DECLINED = {f"13.{options}.{size}" for options in (3, 5) for size in (1, 2, 3)}


def environment(python: str) -> Path:
    """The `wstest` command, whose environment is made if it is not there."""
    made = ENVIRONMENT / "made"
    wstest = ENVIRONMENT / "bin" / "wstest"
    recipe = "\n".join(INSTALLS)
    if made.is_file() and made.read_text() == recipe:
        return wstest
    print(f"making {ENVIRONMENT}", flush=True)
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    tool = CACHE / "virtualenv"  # the last one that can make an environment of Python 2.7
    _pip(sys.executable, "--upgrade", "--target", str(tool), "virtualenv==20.15.1")
    subprocess.run(
        [sys.executable, "-m", "virtualenv", "--quiet", "--python", python, str(ENVIRONMENT)],
        env={**os.environ, "PYTHONPATH": str(tool), "VIRTUALENV_OVERRIDE_APP_DATA": str(CACHE / "virtualenv-seeds")},
        check=True,
    )
    for arguments in INSTALLS:
        _pip(str(ENVIRONMENT / "bin" / "python"), *arguments.split())
    made.write_text(recipe)
    return wstest


def _pip(python: str, *arguments: str) -> None:
    subprocess.run(
        # Python compiles what it imports, which is the lesser part of it.
        [python, "-m", "pip", "-qq", "--disable-pip-version-check", "install", "--no-compile", *arguments],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        check=True,
    )


@contextmanager
def echo() -> Iterator[int]:
    """The port of an echo server that runs until the block ends."""
    process = subprocess.Popen([sys.executable, "-m", "tests.autobahn.echo"], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        if process.poll() is not None:
            raise RuntimeError(f"the echo server ended with {process.returncode}")
    finally:
        process.kill()
        process.communicate()


def suite(wstest: Path, port: int, cases: list[str], timeout: float) -> dict[str, str]:
    """Run `cases` against `port`: each one's id and its result, the worse of behaviour and close."""
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir()
    spec = REPORTS / "spec.json"
    spec.write_text(
        json.dumps(
            {
                "outdir": str(REPORTS),
                "servers": [{"agent": AGENT, "url": f"ws://127.0.0.1:{port}"}],
                "cases": cases,
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    log = REPORTS / "wstest.log"
    with log.open("wb") as output:
        command = [wstest, "-m", "fuzzingclient", "-s", spec]
        subprocess.run(command, cwd=REPORTS, stdout=output, stderr=output, timeout=timeout, check=True)
    index = REPORTS / "index.json"  # written at the end, or not at all
    if not index.is_file():
        raise RuntimeError(f"no results; see {log}")
    found = json.loads(index.read_text())[AGENT]
    return {
        case: result["behaviorClose"] if result["behaviorClose"] in FAILED else result["behavior"]
        for case, result in found.items()
    }


def group_of(case: str) -> str:
    return {"9": "limits", "12": "compression", "13": "compression"}.get(case.partition(".")[0], "core")


def report(results: dict[str, str], groups: list[str]) -> bool:
    """Print the table; whether every case was run, none failed, and no compression was declined but what we decline."""
    words = sorted(set(results.values()) | {"OK"}, key=lambda word: (word != "OK", word))
    print(f"{'':12}{'cases':>8}" + "".join(f"{word:>16}" for word in words))
    complete = True
    for group in groups:
        counts = Counter(result for case, result in results.items() if group_of(case) == group)
        print(f"{group:12}{counts.total():8}" + "".join(f"{counts[word]:16}" for word in words))
        complete &= counts.total() == GROUPS[group][1]
    for case, result in sorted(results.items(), key=lambda item: [int(part) for part in item[0].split(".")]):
        if result != "OK":
            print(f"{result:16}{case}")
    if not complete:
        print("not every case was run")
    untried = sorted(case for case, result in results.items() if result == "UNIMPLEMENTED" and case not in DECLINED)
    if untried:
        print(f"not negotiated, but should be: {', '.join(untried)}")
    return complete and not untried and not FAILED & set(results.values())


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the Autobahn suite against an echo server of ours.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; all if none is given")
    parser.add_argument("--timeout", type=float, default=120, help="seconds that the suite may take")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    groups = options.groups or list(GROUPS)
    python = find("python2.7")
    if python is None:
        print("needs python2.7, on the PATH or in ~/.pyenv/versions")
        return 2
    wstest = environment(python)
    with echo() as port:
        results = suite(wstest, port, [case for group in groups for case in GROUPS[group][0]], seconds(options.timeout))
    return 0 if report(results, groups) else 1


if __name__ == "__main__":
    sys.exit(main())
