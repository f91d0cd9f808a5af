"""A short run of every target, always of the same inputs; and that the harness finds what it looks for."""

import time
from collections.abc import Callable, Hashable

import pytest

from tests.fuzz.harness import CORPUS, KEPT, Failed, Target, corpus, fuzz, one, swelling
from tests.fuzz.mutation import LONGEST
from tests.fuzz.targets import TARGETS

SHORT = 600
each = pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])


@each
def test_no_input_fails_of_a_few_hundred(target: Target) -> None:
    assert fuzz(target, SHORT, 7).outcomes > 1


@each
def test_no_input_that_was_kept_fails(target: Target) -> None:
    inputs = corpus(target.name)
    assert inputs
    for data in inputs:
        one(target, data)


def test_what_is_kept_is_small_and_belongs_to_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == {target.name for target in TARGETS}
    files = list(CORPUS.glob("*/*"))
    assert max(path.stat().st_size for path in files) <= KEPT
    assert sum(path.stat().st_size for path in files) < 1024 * 1024


# -------------------------------------------------------------------------------------------------------- the harness


def target(run: Callable[[bytes], Hashable]) -> Target:
    return Target("made up", run, lambda chance: chance.randbytes(8), [b"needle"])


def test_an_exception_is_found_with_its_input() -> None:
    def run(data: bytes) -> Hashable:
        if b"needle" in data:
            raise KeyError
        return data[:1]

    with pytest.raises(Failed, match="KeyError") as found:
        fuzz(target(run), 20_000, 1)
    assert b"needle" in found.value.data


def test_what_takes_longer_than_its_length_explains_is_found() -> None:
    def run(data: bytes) -> Hashable:
        deadline = time.thread_time() + (len(data) / LONGEST) ** 2 * 0.2  # quadratic
        while time.thread_time() < deadline:
            pass
        return len(data).bit_length()

    one(target(run), b"short")
    with pytest.raises(Failed, match="are allowed"):
        one(target(run), b"x" * LONGEST)


def test_memory_that_is_not_in_proportion_is_found() -> None:
    def bomb(data: bytes) -> Hashable:
        return len(bytes(8 * 1024 * 1024))

    with pytest.raises(Failed, match="bytes of memory"):
        swelling(target(bomb), b"x")


def test_memory_that_is_not_given_back_is_found() -> None:
    held: list[bytes] = []

    def leak(data: bytes) -> Hashable:
        held.append(b"x" * 200_000)
        return 0

    with pytest.raises(Failed, match="the process grew"):
        fuzz(target(leak), 600, 1)


def test_an_input_whose_outcome_is_new_becomes_a_parent_of_others() -> None:
    def maze(data: bytes) -> Hashable:
        depth = next((depth for depth in range(4) if data[: depth + 1] != b"maze"[: depth + 1]), 4)
        if depth == 4:
            raise EOFError
        return depth

    with pytest.raises(Failed, match="EOFError"):  # by chance alone it would take 2**32
        fuzz(Target("maze", maze, lambda chance: chance.randbytes(4), [b"m", b"a", b"z", b"e"]), 200_000, 1)


def test_the_same_seed_makes_the_same_inputs() -> None:
    def inputs() -> list[bytes]:
        seen: list[bytes] = []

        def run(data: bytes) -> Hashable:
            seen.append(data)
            return len(data) % 7

        fuzz(target(run), 500, 3)
        return seen

    assert inputs() == inputs()
