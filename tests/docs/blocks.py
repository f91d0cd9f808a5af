"""The blocks of code of a Markdown page: what a reader copies."""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

from tests.tools.need import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").glob("*/README.md"))]

_FENCE = re.compile(r"( *)```(\S+)(.*)")
_TITLE = re.compile(r'title="([^"]*)"')
_NOT_RUN = re.compile(r" *<!-- not run: (.+) -->")


class Block(NamedTuple):
    """line: of its first line of code, from 1. title: the file that it is, or empty. not_run: why, or empty."""

    page: Path
    line: int
    language: str
    title: str
    code: str
    not_run: str

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line} ({self.language})"


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    return list(_blocks(page))


def _blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text().splitlines()
    before, number = "", 0
    while number < len(lines):
        fence = _FENCE.fullmatch(lines[number])
        if fence is None:
            assert not lines[number].strip().startswith("```"), f"{name(page)}:{number + 1}: a block without a language"
            before = lines[number] if lines[number].strip() else before
            number += 1
            continue
        end = lines.index(f"{fence[1]}```", number + 1)
        title = _TITLE.search(fence[3])
        marked = _NOT_RUN.fullmatch(before)
        code = dedent("\n".join(lines[number + 1 : end])) + "\n"
        yield Block(page, number + 2, fence[2], title[1] if title else "", code, marked[1] if marked else "")
        before, number = "", end + 1
