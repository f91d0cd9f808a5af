"""A case that fails, or ends its process, fails its test; the next is played all the same."""

from pathlib import Path

import pytest

from tests.tools.cases import cases


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
