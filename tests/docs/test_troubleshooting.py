"""The page that one searches for the text of an error: the texts are those of the code, the options are there."""

import re
from pathlib import Path

import pytest

from freshet.config import reference
from tests.tools.need import ROOT

PAGE = (ROOT / "docs/guide/troubleshooting.md").read_text("utf-8")
ELSEWHERE = ("Address already in use", "coroutine", "429", "503", "404", "1009")  # words of Python and of HTTP
ROWS = [row.split("|")[1].strip() for row in PAGE.splitlines() if row.startswith("| `")]
SOURCE = " ".join(path.read_text("utf-8") for path in Path(ROOT / "src").rglob("*.py")).replace("`", "")
JOINED = re.sub(r'"\s+f?"', "", SOURCE)  # texts that are written on several lines


@pytest.mark.parametrize("text", [row for row in ROWS if not any(word in row for word in ELSEWHERE)])
def test_a_text_that_is_explained_is_one_that_is_said(text: str) -> None:
    (quoted, *_) = re.findall("`([^`]+)`", text)
    quoted = re.sub(r"^3\d\d\d ", "", quoted)
    pieces = [
        piece.strip() for piece in re.split(r"'[^']*'|app:api|\{.*?\}|=\.\.\.|\bint\b|\bHistory\b|\. |[(),:]", quoted)
    ]
    said = [piece for piece in pieces if len(piece) > 3]
    assert said
    assert [piece for piece in said if piece not in JOINED] == []


def test_the_options_that_are_named_are_there() -> None:
    there = {option.path for option in reference()} | {"rates.address", "channels"}
    named = set(re.findall(r"`((?:limits|rates|timing|tokens|websocket)\.\w+)`", PAGE))
    assert len(named) > 5
    assert named <= there
