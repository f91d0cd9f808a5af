"""`.env` in the working directory: where `freshet init` leaves the secrets, and every command finds them."""

import os
from pathlib import Path

from freshet.cli.console import fail
from freshet.config import PREFIX

PATH = Path(".env")


def load() -> None:
    """Set what `.env` has of ours and the environment has not. A line is `NAME=value`, `#` begins a comment.

    Other names are other programs' business.
    """
    try:
        lines = PATH.read_text("utf-8-sig").splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{PATH} cannot be read: {error}")
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ")
        if not text.startswith(PREFIX):
            continue
        name, separator, value = text.partition("=")
        if not separator:
            fail(f"{PATH}, line {number}: expected NAME=value")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        os.environ.setdefault(name.strip(), value)
