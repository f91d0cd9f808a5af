"""Each of a newcomer's mistakes is answered with what is wrong, where, and the way out."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import freshet
from tests.newcomer.mistakes import (
    APPLICATION,
    COMMAND_LINE,
    CONFIGURATION,
    MOUNTED,
    PLAIN,
    RUNNING,
    SECURE,
    TAKEN,
    Mistake,
)
from tests.tools.pages import serving_files
from tests.tools.patience import seconds
from tests.tools.serving import serving

OURS = str(Path(freshet.__file__).parent)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with (
        serving("tests.newcomer.application:api") as mounted,
        serving("--dev") as plain,
        serving_files(tmp_path_factory.mktemp("page")) as page,
    ):
        yield {
            TAKEN: str(urlsplit(page).port),
            MOUNTED: mounted.http("").rstrip("/"),
            PLAIN: plain.http("").rstrip("/"),
            SECURE: plain.http("").rstrip("/").replace("http:", "https:"),
        }


def answer_to(mistake: Mistake, folder: Path, places: dict[str, str]) -> tuple[int, str]:
    for name, text in mistake.files.items():
        (folder / name).write_text(text)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
    done = subprocess.run(
        [sys.executable, "-m", "freshet", *shlex.split(_put(mistake.command, places))],
        cwd=folder,
        env={**clean, "COLUMNS": "200", "NO_COLOR": "1", **mistake.env},
        capture_output=True,
        text=True,
        timeout=seconds(20),
        check=False,
    )
    return done.returncode, done.stderr


def _put(text: str, places: dict[str, str]) -> str:
    for word, place in places.items():
        text = text.replace(word, place)
    return text


@pytest.mark.parametrize(
    "mistake", [*COMMAND_LINE, *APPLICATION, *CONFIGURATION, *RUNNING], ids=lambda mistake: mistake.what
)
def test_a_mistake_is_answered_with_what_is_wrong_and_the_way_out(
    mistake: Mistake, tmp_path: Path, places: dict[str, str]
) -> None:
    code, answer = answer_to(mistake, tmp_path, places)
    missing = [text for each in mistake.says if (text := _put(each, places)) not in answer]
    assert (missing, code) == ([], mistake.code), answer
    assert OURS not in answer  # no line of ours
    assert "Traceback" not in answer
