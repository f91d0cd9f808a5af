"""What AWS documents, tried on Freshet; the page says the same."""

from collections.abc import Iterator

import pytest

from tests.endpoints.gateway.conformance import PAGE, PROBES, Place, Probe, freshet, outcome


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with freshet() as place:
        yield place


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.run.__name__)
def test_freshet(probe: Probe, place: Place) -> None:
    assert probe.run(place)


def test_the_page_has_each_probe_with_what_comes_of_it(place: Place) -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    shown = {row[0].removeprefix("| "): row[1] for row in rows[2:]}
    assert shown == {probe.about: outcome(probe, place) for probe in PROBES}, (
        "python -m tests.endpoints.gateway.conformance --write"
    )
