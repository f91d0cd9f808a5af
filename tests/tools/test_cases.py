"""A case that fails, or ends its process, fails its test; the next is played all the same."""

import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.tools.cases import cases


@pytest.fixture
def _many_files() -> Iterator[None]:
    """What is opened from now on has a number behind 1,023, the last that `select` takes."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1100:
        pytest.skip("a process may not open so many files")
    with ExitStack() as stack:
        while (file := os.open(os.devnull, os.O_RDONLY)) < 1024:
            stack.callback(os.close, file)
        stack.callback(os.close, file)
        yield


def test_a_case_that_fails_says_why_and_the_next_is_played_all_the_same(node: Path) -> None:
    with cases(node, "agui.mjs") as play:
        for _ in range(2):
            with pytest.raises(pytest.fail.Exception, match="is not a function"):
                play("http://127.0.0.1:9", "no such scenario")


def test_a_script_that_ends_or_does_not_answer_fails(node: Path) -> None:
    with cases(node, "none.mjs") as play:
        for _ in range(2):
            with pytest.raises(pytest.fail.Exception, match="it ended"):
                play()
    with cases(node, "agui.mjs") as play, pytest.raises(pytest.fail.Exception, match="it takes too long"):
        play("http://127.0.0.1:9", "answers", within=0)


@pytest.mark.usefixtures("_many_files")
def test_a_process_with_many_files_plays_cases(node: Path) -> None:
    with cases(node, "agui.mjs") as play, pytest.raises(pytest.fail.Exception, match="is not a function"):
        play("http://127.0.0.1:9", "no such scenario")
