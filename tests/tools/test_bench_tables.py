"""What the benchmarks make of what was measured: tables, plots, and a part of a file that is written anew."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import crowd, versus
from bench.beds import Cost
from bench.pairs import pair_of
from bench.plots import bars
from bench.results import write
from tests.tools.need import ROOT, require
from tests.tools.patience import seconds

STEP = crowd.Step(
    clients=100_000,
    connecting=20.0,
    connect_cpu=150.0,
    memory=250_000_000,
    machine=2**31,
    p50=300.0,
    p99=600.0,
    last=700.0,
    delivery_cpu=4.0,
    recovering=30.0,
    recover_cpu=200.0,
)


def test_percentiles_are_those_of_all_loads_together() -> None:
    latencies = Counter({5000: 98, 10_000: 1, 90_000: 1})
    assert [crowd.percentile(latencies, share) for share in (0.5, 0.98, 0.99, 1.0)] == [5, 5, 10, 90]


def test_what_one_way_costs_beside_another_is_read_off_the_rounds_and_not_off_their_sums() -> None:
    pair = pair_of([(1.0, 2.0), (2.0, 3.0), (90.0, 90.0)])  # the machine was busy in the last round
    assert pair == (2.0, 3.0, 1.5)
    assert pair.row("10") == "| 10 | 2.00 | 3.00 | 1.00 | 1.500 |"


def test_a_million_is_ten_times_a_hundred_thousand() -> None:
    text = "\n".join(crowd.on_paper(STEP))
    assert "| memory of Freshet | 0.23 GiB | 2.3 GiB |" in text
    assert "| CPU for one publication to all | 0.4 s | 4 s: 0.12 s on 64 cores |" in text
    assert "20 workers of 50,000 clients" in text


def test_each_size_is_a_row_with_a_cell_for_each_column() -> None:
    head, rule, row = crowd.table([STEP])
    assert head.count("|") == rule.count("|") == row.count("|")
    assert row.startswith("| 100,000 | 20.0 | 150 | 2.44 | 2.00 |")


def test_servers_are_sorted_by_what_they_cost_of_the_loop() -> None:
    costs = {
        (versus.LIMIT, 8): [Cost(0.1, 1.0, 1, 2), Cost(0.1, 2.0, 1, 2), Cost(0.1, 1.0, 1, 2)],
        ("dear", 8): [Cost(5, 10.0, 1, 2), Cost(5, 20.0, 1, 2), Cost(5, 9.0, 1, 2)],
        ("cheap", 8): [Cost(1, 2.0, 1, 2), Cost(1, 2.0, 1, 2), Cost(1, 3.0, 1, 2)],
    }
    rows = versus.table(costs, [8])[2:]
    assert [row.split(" | ")[0] for row in rows] == [f"| {versus.LIMIT}", "| cheap", "| dear"]
    assert " | 10.00 | " in rows[2], "the median of the rounds' ratios, and not the ratio of medians"


def test_a_peer_that_is_not_installed_says_what_would_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(versus, "GO_PATH", Path("/nowhere"))
    monkeypatch.setattr(versus, "PYTHON", Path("/nowhere"))
    monkeypatch.setattr("shutil.which", lambda name, **_: f"/usr/bin/{name}" if name == "go" else None)
    for peer in versus.peers(128):
        if "Freshet" in peer.name or peer.name == versus.LIMIT:
            continue
        with pytest.raises(versus.MissingTool, match=r"apt-get install|make"):
            peer.command(1, tmp_path)


def test_bars_are_longer_for_what_costs_more_and_ours_stand_out() -> None:
    root = ElementTree.fromstring(bars("CPU & more", {"Freshet": 0.5, "other": 5.0, "third": 50.0}, ours="Freshet"))
    rects = root.findall("{http://www.w3.org/2000/svg}rect")
    widths = [float(rect.get("width", 0)) for rect in rects]
    assert widths == sorted(widths)
    assert [rect.get("class") for rect in rects] == ["ours", None, None]


def test_a_part_is_written_anew_and_the_others_stay(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- end of a -->\nbehind\n")
    write("a", ["new"], page)
    write("b", ["more"], page)
    text = page.read_text()
    assert text.startswith("before\n<!-- a -->\n\nnew\n")
    assert "old" not in text
    assert "\nbehind\n" in text
    assert "more" in text


@pytest.mark.timeout(120)
def test_a_crowd_is_connected_reached_cut_and_recovered_by_several_workers() -> None:
    require("cc")
    require("taskset")
    done = subprocess.run(
        [sys.executable, "-m", "bench.crowd", "--sizes", "5,30", "--each", "15"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds(100),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith(("| 5 |", "| 30 |"))]
    assert len(rows) == 2
