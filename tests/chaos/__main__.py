"""Run the faults and say what happened: `make chaos`, or `python -m tests.chaos --help`."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.chaos.scenarios import SCENARIOS, Outcome, happen
from tests.chaos.world import Load

COLUMNS = (
    "scenario",
    "engine",
    "acknowledged x listeners",
    "delivered",
    "recovered",
    "told",
    "refused",
    "back: 50/95/100 %",
    "wrong",
)


def row(name: str, engine: str, outcome: Outcome) -> str:
    verdict, back = outcome.verdict, outcome.back
    places = [back[min(len(back) - 1, int(len(back) * part))] for part in (0.5, 0.95, 1)] if back else []
    wrong = verdict.silent + verdict.twice + verdict.disordered + verdict.unexpected
    cells = (
        name,
        engine,
        f"{verdict.expected:,}",
        f"{verdict.delivered / max(1, verdict.expected):.2%}",
        f"{outcome.recovered:,}",
        f"{verdict.told:,}",
        f"{outcome.failed:,}",
        " / ".join(f"{place:.1f} s" for place in places) or "nobody was out",
        f"{wrong:,}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--clients", type=int, default=Load().clients)
    parser.add_argument("--channels", type=int, default=Load().channels)
    parser.add_argument("--rate", type=int, default=Load().rate, help="publications a second")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", default=[], help="part of a name, or an engine; may be repeated")
    asked = parser.parse_args()
    load = Load(asked.clients, asked.channels, asked.rate)
    print(f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}", sep="\n")
    clean = True
    for seed in range(asked.seed, asked.seed + asked.rounds):
        for scenario in SCENARIOS:
            if asked.only and not any(it in scenario.name or it == scenario.place.engine for it in asked.only):
                continue
            with tempfile.TemporaryDirectory(prefix="freshet-chaos-") as folder:
                outcome = asyncio.run(happen(scenario, load, Path(folder), seed))
            print(row(scenario.name, scenario.place.engine, outcome), flush=True)
            clean = clean and outcome.verdict.is_clean
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
