"""`make fuzz`: every target, a million inputs each unless it is told otherwise.

What fails is written to build/fuzz, and goes to the corpus when it is repaired.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

from tests.fuzz.harness import MIB, Failed, corpus, fuzz, keep
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10**6, help="of each target")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of the first target; the same one, the same inputs"
    )
    parser.add_argument(
        "--only", nargs="*", default=[], metavar="TARGET", help=", ".join(each.name for each in TARGETS)
    )
    parser.add_argument("--keep", action="store_true", help="add inputs with outcomes that are new to the corpus")
    options = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())  # what is logged of an input is of no interest
    print(f"seed {options.seed}")
    failures = 0
    for target in TARGETS:
        if options.only and target.name not in options.only:
            continue
        start = time.monotonic()
        try:
            report = fuzz(target, options.inputs, options.seed, corpus(target.name))
        except Failed as failed:
            failures += 1
            place = Path("build/fuzz") / f"{target.name}-{options.seed}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(failed.data)
            print(f"{target.name:12} FAILED, the input is in {place}\n{failed}", flush=True)
            continue
        if options.keep:
            keep(target.name, report.new)
        print(
            f"{target.name:12} {report.inputs:8} inputs in {time.monotonic() - start:5.0f} s, "
            f"{report.outcomes:5} outcomes, slowest {report.slowest:4.0%} of what is allowed, "
            f"{report.growth / MIB:+.1f} MiB",
            flush=True,
        )
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
