"""Fossil deltas: the official client applies what is made here, and it is small where little changed."""

import json
import random
from collections.abc import Callable

import pytest
from centrifuge.fossil import apply_delta
from hypothesis import given
from hypothesis import strategies as st

from freshet.dialects.centrifuge.fossil import checksum, create
from tests.tools.cost import assert_linear

PIECES = st.lists(
    st.sampled_from(["one long piece of text, ", "ä", "日本語の文章がここに続いている", "🙂", "x", '"', "\n"])
)


@given(st.binary(), st.binary())
def test_bytes_of_any_sort_come_out_as_they_were(source: bytes, target: bytes) -> None:
    assert apply_delta(source, create(source, target)) == target


@given(PIECES.map("".join), PIECES.map("".join))
def test_a_delta_of_two_texts_is_a_text(source: str, target: str) -> None:
    delta = create(source.encode(), target.encode())
    delta.decode()
    assert apply_delta(source.encode(), delta) == target.encode()


@given(st.binary(max_size=4), st.binary(max_size=400), st.integers(0, 400), st.binary(max_size=40))
def test_a_piece_that_moved_or_repeats_is_applied(start: bytes, middle: bytes, cut: int, new: bytes) -> None:
    source = start + middle
    target = middle[cut:] + new + middle[:cut] + middle
    assert apply_delta(source, create(source, target)) == target


@given(st.text(st.sampled_from("éèà€日"), max_size=200), st.text(st.sampled_from("éèà€日"), max_size=200))
def test_characters_that_share_bytes_are_not_cut(source: str, target: str) -> None:
    delta = create(source.encode(), target.encode())
    delta.decode()
    assert apply_delta(source.encode(), delta) == target.encode()


def test_a_value_that_changed_costs_little() -> None:
    state = {"lots": [{"id": number, "price": number * 17, "owner": f"user {number}"} for number in range(200)]}
    before = json.dumps(state).encode()
    state["lots"][20]["price"] = 1
    state["lots"][90]["owner"] = "somebody else"
    state["lots"].append({"id": 200, "price": 5, "owner": "nobody"})
    delta = create(before, json.dumps(state).encode())
    assert len(delta) < 150
    assert len(create(before, before)) < 20


def test_what_was_inserted_in_the_middle_is_all_that_is_new() -> None:
    text = bytes(random.Random(1).choices(b"abcdefghij", k=5000))
    target = text[:1000] + b"NEW" + text[1000:3000] + text[3007:] + text[:200]
    delta = create(text, target)
    assert apply_delta(text, delta) == target
    assert len(delta) < 70


def test_a_checksum_is_that_of_the_format() -> None:
    assert checksum(b"") == 0
    assert checksum(b"abcd") == 0x61626364
    assert checksum(b"abcde") == (0x61626364 + 0x65000000) & 0xFFFFFFFF
    assert checksum(b"\xff" * 8) == 0xFFFFFFFE


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (lambda n: b"a" * n, lambda n: b"b" + b"a" * n + b"b"),
        (lambda n: b"ab" * (n // 2), lambda n: b"x" + b"ba" * (n // 2) + b"y"),
        (lambda n: b"\x80" * n, lambda n: b"\x00" + b"\x80" * (2 * n) + b"\x00"),
        (lambda n: bytes(random.Random(1).randbytes(n)), lambda n: bytes(random.Random(2).randbytes(n))),
        (lambda n: b"a" * n, lambda n: (b"a" * 40 + b"b") * (n // 41)),
    ],
    ids=["one byte", "shifted", "no character begins", "nothing in common", "often cut"],
)
def test_the_time_grows_with_the_length(source: object, target: object) -> None:
    def creating(size: int) -> Callable[[], object]:
        one, other = source(size), target(size)  # type: ignore[operator]
        assert apply_delta(one, create(one, other)) == other
        return lambda: create(one, other)

    assert_linear(creating, 16_000)
