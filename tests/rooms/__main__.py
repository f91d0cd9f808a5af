"""Count in rooms while their owners are killed, paused, cut off, and lied to about the time: `make rooms`.

It says what was acknowledged, and what of that is lost, was done twice, or was written by an owner behind its
successor. It fails when there is anything of that kind.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections import Counter
from itertools import cycle
from pathlib import Path

from tests.rooms.checking import FAULTS, CheckedRooms, counting

EACH = 15  # operations of each client, while a fault lasts, and behind it


async def check(engine: str, folder: Path, operations: int, nodes: int, rooms: int, clients: int) -> bool:
    """Until so many are acknowledged. Whether all is right."""
    faults: Counter[str] = Counter()
    async with counting(CheckedRooms(engine, folder, nodes, rooms, clients)) as checked:
        for fault in cycle(FAULTS):
            await checked.suffer(fault, EACH)
            faults[fault] += 1
            done = sum(client.acknowledged for client in checked.clients)
            print(f"{engine}: {done:,} operations, {faults.total()} faults", file=sys.stderr, flush=True)
            if done >= operations:
                break
    verdict, away = checked.verdict, sorted(checked.away)
    what = ", ".join(f"{count} {fault}" for fault, count in faults.items())
    print(f"{engine}: {verdict}.")
    print(f"  {faults.total()} faults ({what}); away for {statistics.median(away):.1f} s, {away[-1]:.1f} at most.")
    for wrong in verdict.wrong:
        print(f"  {wrong}")
    return not (verdict.lost or verdict.doubled or verdict.stale or verdict.disordered or verdict.wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=50_000, help="acknowledged on each engine (default: 50000)")
    parser.add_argument("--only", choices=("redis", "nats"), help="one engine (default: both)")
    parser.add_argument("--nodes", type=int, default=3, help="servers (default: 3)")
    parser.add_argument("--rooms", type=int, default=4, help="rooms that count (default: 4)")
    parser.add_argument("--clients", type=int, default=16, help="clients (default: 16)")
    it = parser.parse_args()
    right = True
    for engine in [it.only] if it.only else ["redis", "nats"]:
        with tempfile.TemporaryDirectory() as folder:
            right &= asyncio.run(check(engine, Path(folder), it.operations, it.nodes, it.rooms, it.clients))
    sys.exit(not right)


if __name__ == "__main__":
    main()
