"""The figures: percentiles of raw samples, losses by sequence, and what makes them worthless."""

import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from freshet.load.conductor import Measured, shares
from freshet.load.plan import Plan
from freshet.load.plot import latencies
from freshet.load.report import doubts, figures, lines, lost, percentile, table

MILLISECOND = 1_000_000
SERIES = ("delivery", "connect", "back", "lag")


def measured(counts: dict[str, int] | None = None, **changes: Any) -> Measured:
    given: dict[str, Any] = {
        "series": dict.fromkeys(SERIES, ()),
        "reason": "",
        "busy": 0.2,
        "seconds": 2.0,
        "connects_per_second": 500.0,
        "is_whole": True,
    }
    series = {**given["series"], **changes.pop("series", {})}
    return Measured(**{**given, **changes, "series": series, "counts": Counter(counts or {})})


def milliseconds(*values: float) -> Sequence[int]:
    return sorted(int(value * MILLISECOND) for value in values)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 501), (0.95, 951), (0.99, 991), (0.999, 1000), (1.0, 1000)])
def test_a_percentile_is_one_of_the_samples(share: float, expected: float) -> None:
    assert percentile(milliseconds(*range(1, 1001)), share) == expected


def test_one_sample_is_every_percentile() -> None:
    assert {percentile(milliseconds(7), share) for share in (0.0, 0.5, 0.999, 1.0)} == {7}


def test_what_was_due_and_did_not_come_is_lost() -> None:
    assert lost(measured({"due": 100, "deliveries": 97})) == 3


def test_the_figures_can_be_read_by_a_program() -> None:
    samples = {"delivery": milliseconds(1, 2, 3, 4)}
    found = figures(measured({"published": 2, "deliveries": 4, "due": 5}, series=samples), {"load": "fanout"})
    read = json.loads(json.dumps(found))
    assert read["load"] == "fanout"
    assert read["lost"] == 1
    assert read["deliveries_per_second"] == 2.0
    assert read["latency_ms"]["delivery"] == {
        "samples": 4,
        "p50": 3.0,
        "p95": 4.0,
        "p99": 4.0,
        "p99.9": 4.0,
        "max": 4.0,
    }
    assert "back" not in read["latency_ms"], "nobody came back"


def test_the_table_has_a_row_for_each_series_that_has_samples() -> None:
    console = Console(width=120, file=io.StringIO())
    console.print(table(measured(series={"delivery": milliseconds(1.5), "connect": milliseconds(20)})))
    rows = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [row.split()[0] for row in rows] == ["milliseconds", "delivery", "connect"]
    assert rows[1].split()[1:] == ["1.50", "1.50", "1.50", "1.50", "1.50", "1"]


def test_the_lines_name_losses_and_what_went_wrong() -> None:
    counts = {"published": 10, "deliveries": 90, "due": 100, "closed": 1, "turned_away": 3}
    text = "\n".join(lines(measured(counts, reason="3008 slow")))
    assert "10 lost of 100, by sequence" in text
    assert "1 connections closed by the server" in text
    assert "3 times turned away" in text
    assert "3008 slow" in text
    assert "refused" not in text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"is_whole": False}, "interrupted"),
        ({"busy": 0.97}, "97% of a core"),
        ({"series": {"lag": milliseconds(*[0.1] * 90, *[50] * 10)}}, "sent late, p99 50.0 ms"),
    ],
)
def test_figures_that_say_more_about_the_load_than_about_the_server_are_doubted(
    changes: dict[str, Any], says: str
) -> None:
    [doubt] = doubts(measured(**changes))
    assert says in doubt
    assert doubts(measured()) == []


def plan(**changes: Any) -> Plan:
    given = {"load": "fanout", "url": "http://h", "dialect": "centrifuge", "channel": "a", "clients": 10, "rate": 90}
    return Plan(**{**given, **changes})


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_the_clients_and_each_has_its_own_tokens(processes: int) -> None:
    plans = shares(plan(tokens=[f"t{number}" for number in range(10)]), processes)
    assert sum(each.clients for each in plans) == 10
    assert [token for each in plans for token in each.tokens] == [f"t{number}" for number in range(10)]
    assert [each.first for each in plans] == [sum(it.clients for it in plans[:n]) for n in range(processes)]
    assert {each.rate for each in plans} == {90}, "one of them publishes, and has the whole rate"


def test_one_token_is_that_of_all_clients() -> None:
    assert [each.token(4) for each in shares(plan(tokens=["only"]), 2)] == ["only", "only"]
    assert plan().token(3) == ""


def test_no_room_is_cut_in_two() -> None:
    plans = shares(plan(load="chat", clients=50, members=10, rate=90), 3)
    assert [each.clients for each in plans] == [20, 20, 10]
    assert sum(each.rate for each in plans) == pytest.approx(90)


def test_a_plot_is_svg_with_a_line_for_each_series_and_the_tail_in_it() -> None:
    samples = {"delivery": milliseconds(*range(1, 2000)), "connect": milliseconds(5, 9), "back": ()}
    root = ElementTree.fromstring(latencies("a <title>", samples))
    name = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{name}polyline")) == 2
    texts = [text.text for text in root.findall(f"{name}text")]
    assert "a <title>" in texts
    assert "99.9 %" in texts
    assert {"delivery", "connect"} <= set(texts)
    assert "back" not in texts


def test_a_plot_of_nothing_is_still_one() -> None:
    assert ElementTree.fromstring(latencies("nothing", {"delivery": ()})) is not None
