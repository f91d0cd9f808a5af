"""Run the faults and say what happened: `make chaos`, or `python -m tests.chaos --help`.

With --write the table goes to tests/chaos/RESULTS.md.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.arguments import benchmark_parser
from bench.results import write
from tests.chaos.scenarios import SCENARIOS, Outcome, Scenario, happen
from tests.chaos.world import Load
from tests.tools.need import ROOT

RESULTS = Path(__file__).parent / "RESULTS.md"
COLUMNS = (
    "scenario",
    "engine",
    "acknowledged x subscribers",
    "delivered",
    "recovered",
    "gaps notified",
    "refused",
    "back: 50/95/100 %",
    "wrong",
)


def row(name: str, engine: str, outcome: Outcome) -> str:
    verdict, back = outcome.verdict, outcome.back
    places = [back[min(len(back) - 1, int(len(back) * part))] for part in (0.5, 0.95, 1)] if back else []
    wrong = verdict.silent + verdict.duplicates + verdict.disordered + verdict.unexpected
    cells = (
        name,
        engine,
        f"{verdict.expected:,}",
        f"{verdict.delivered / max(1, verdict.expected):.2%}",
        f"{outcome.recovered:,}",
        f"{verdict.notified:,}",
        f"{outcome.failed:,}",
        " / ".join(f"{place:.1f} s" for place in places) or "nobody was out",
        f"{wrong:,}",
    )
    return f"| {' | '.join(cells)} |"


@contextmanager
def version(revision: str) -> Iterator[str]:
    """Where the code of a revision is; "": of none."""
    if not revision:
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="freshet-before-") as folder:
        subprocess.run(["git", "worktree", "add", "--detach", folder, revision], cwd=ROOT, check=True)
        try:
            yield f"{folder}/src"
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=ROOT, check=True)


def chosen(only: list[str]) -> list[Scenario]:
    return [
        it
        for it in SCENARIOS
        if not only or any(word in it.name or word in (it.place.engine, it.place.label) for word in only)
    ]


def arguments() -> argparse.Namespace:
    load = Load()
    parser = benchmark_parser(
        __doc__,
        results="tests/chaos/RESULTS.md",
        clients=load.clients,
        channels=load.channels,
        rate=load.rate,
        rounds=1,
    )
    parser.prog = "python -m tests.chaos"
    parser.add_argument("--soak", type=float, default=load.soak, help="seconds of one fault after the other")
    parser.add_argument("--before", default="", help="a revision that servers begin with, before a rolling deploy")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", default=[], help="part of a name, or an engine; may be repeated")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    print(*lines, sep="\n", flush=True)
    clean = True
    with version(options.before) as before:
        load = Load(options.clients, options.channels, options.rate, options.soak, before)
        for seed in range(options.seed, options.seed + options.rounds):
            for scenario in chosen(options.only):
                with tempfile.TemporaryDirectory(prefix="freshet-chaos-") as folder:
                    outcome = asyncio.run(happen(scenario, load, Path(folder), seed))
                lines.append(row(scenario.name, scenario.place.label, outcome))
                print(lines[-1], flush=True)
                clean = clean and outcome.verdict.is_clean
    if options.write:
        title = f"## {options.clients:,} clients, {options.channels} channels, {options.rate:g} publications a second"
        write(f"{options.clients} clients", [title, "", *lines], RESULTS)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
