"""What a process does not import, because it does not need it: most of what it takes to start is imports."""

import subprocess
import sys

import pytest

from tests.tools.need import ROOT
from tests.tools.patience import seconds

SERVER = ("freshet.app", "starlette", "uvicorn", "prometheus_client", "google.protobuf")
TOKENS = ("jwt", "cryptography")
PARENT = ("freshet.app", "uvicorn", "jwt", "prometheus_client", "google.protobuf")  # what the parent of workers has not
OPTIONS = ("freshet.config", "msgspec", "asyncio")
NOWHERE = "http://127.0.0.1:9"

COMMAND = """
import sys
sys.argv = ["freshet", *sys.argv[1:]]
from freshet.cli import main
try:
    main()
except SystemExit:
    pass
"""
SAY_WHAT_IS_IMPORTED = "\nimport sys\nprint('imported:', *sys.modules)"


def imported_by(program: str, *arguments: str) -> set[str]:
    command = [sys.executable, "-c", program + SAY_WHAT_IS_IMPORTED, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=seconds(30))
    names = done.stdout.rpartition("imported: ")[2]
    assert names, done.stderr
    return set(names.split())


def commands(names: set[str]) -> set[str]:
    from freshet.cli import NAMES

    return {name for name in NAMES if f"freshet.cli.{name}" in names}


def test_the_package_is_imported_name_by_name() -> None:
    assert not imported_by("import freshet") & {*SERVER, *TOKENS, *OPTIONS, "typer"}
    assert "freshet.app" in imported_by("from freshet import Freshet")
    assert not imported_by("from freshet import Refusal") & {*SERVER, *TOKENS}


@pytest.mark.parametrize(
    ("arguments", "own", "absent"),
    [
        (["--version"], {"version"}, {*SERVER, *TOKENS, *OPTIONS, "rich.console"}),
        (["version"], {"version"}, {*SERVER, *TOKENS, "rich.console"}),
        (["publish", "news", "1", "--url", NOWHERE], {"publish"}, {*SERVER, *TOKENS, "asyncio", "rich.console"}),
        (["revoke", "--user", "alice", "--url", NOWHERE], {"revoke"}, {*SERVER, *TOKENS, "asyncio", "rich.console"}),
        (["token", "--user", "alice"], {"token"}, {*SERVER, "rich.console"}),
        (["gateway", "import", "nothing.yaml"], {"gateway"}, {*SERVER, *TOKENS, "rich.console"}),
        (["serve", "--port", "-1"], {"serve"}, {*PARENT}),
        (["serv"], set(), {*SERVER, *TOKENS}),
    ],
    ids=lambda it: " ".join(it) if isinstance(it, list) else "",
)
def test_a_command_imports_what_it_needs(arguments: list[str], own: set[str], absent: set[str]) -> None:
    names = imported_by(COMMAND, *arguments)
    assert commands(names) == own
    assert not names & absent


def test_a_server_and_the_parent_of_workers_do_not_wait_for_rich() -> None:
    names = imported_by("import freshet.cli.serve, freshet.cli.application, freshet.serving.server")
    assert "uvicorn" in names
    assert "rich.console" not in names
    assert not imported_by("import freshet.cli.serve") & {*PARENT, "rich.console"}


def test_help_has_imported_all_commands() -> None:
    from freshet.cli import NAMES

    assert commands(imported_by(COMMAND, "--help")) == {*NAMES}
