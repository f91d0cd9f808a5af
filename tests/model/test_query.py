"""The fields of a query are those that the standard library reads, whatever was sent."""

from random import Random
from urllib.parse import parse_qsl

import pytest

from freshet.model.query import fields_of

PIECES = [
    "a",
    "=",
    "&",
    "%",
    "%4",
    "%41",
    "%c3%a9",
    "%C3",
    "%A9",
    "%ff",
    "%zz",
    "%%",
    "+",
    "%2B",
    "%26",
    "%3d",
    ";",
    "é",
]


@pytest.mark.parametrize("seed", range(20))
def test_fields_are_read_as_by_the_standard_library(seed: int) -> None:
    random = Random(seed)
    for _ in range(500):
        text = "".join(random.choices(PIECES, k=random.randrange(30)))
        assert fields_of(text) == parse_qsl(text, keep_blank_values=True), text
