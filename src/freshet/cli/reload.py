"""`freshet serve --reload`: the server again, whenever a file of the application has changed."""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from freshet.cli.console import fail, say

if TYPE_CHECKING:
    from watchfiles import Change

WATCHED = (".toml", ".env", ".html")  # beside Python's
FLAG = "--reload"
GRACE = 15  # seconds from SIGINT to SIGKILL: clients are told to come back


def serve_again_and_again(arguments: Sequence[str]) -> None:
    """Run `freshet serve` with these arguments, and anew after each change below the working directory.

    Clients come back by themselves; what channels in memory held is gone with the process.
    """
    if find_spec("watchfiles") is None:
        fail("--reload needs a package that is not installed", "pip install watchfiles")
    from watchfiles import PythonFilter, run_process

    say(f"Restarting whenever a file below {Path.cwd()} changes")
    command = [sys.executable, "-m", "freshet", "serve", *(each for each in arguments if each != FLAG)]
    watched = PythonFilter(extra_extensions=WATCHED)
    run_process(Path.cwd(), target=_run, args=(command,), watch_filter=watched, callback=_changed, sigint_timeout=GRACE)


def _changed(changes: "set[tuple[Change, str]]") -> None:
    names = sorted({str(Path(path).relative_to(Path.cwd())) for _, path in changes})
    say(f"{', '.join(names)} changed: restarting")


def _run(command: list[str]) -> None:
    os.setsid()  # so that Ctrl-C reaches it once, by its parent, and not a second time from the terminal
    os.execv(command[0], command)  # noqa: S606 - this program, with the arguments it was started with
