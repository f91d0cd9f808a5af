"""What a change costs a fan-out: this version and another one, interleaved.

Both servers run at the same time, and are measured one after the other, again and again: the machine's noise falls on
both. CPU is what the kernel accounts to each.

    git worktree add /tmp/before main~10
    python -m bench.compare --other /tmp/before/src
"""

import tempfile
from pathlib import Path
from statistics import median

from bench.arguments import benchmark_parser
from bench.beds import HERE, bed, build, raise_open_files


def main() -> None:
    parser = benchmark_parser(__doc__, subscribers=1000, payload=128, windows=[1, 8], seconds=1, rounds=15)
    parser.add_argument("--other", type=Path, required=True, help="the `src` of the other version")
    options = parser.parse_args()
    raise_open_files()
    sources = str(options.other), str(HERE.parent / "src")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        build(work)
        with (
            bed("freshet", work, env={"PYTHONPATH": sources[0]}) as other,
            bed("freshet", work, env={"PYTHONPATH": sources[1]}) as this,
        ):
            for each in (other, this):
                each.do(f"connect {options.subscribers}")
            for window in options.windows:
                command = f"closed {window} {options.payload} {options.seconds}"
                rounds = [(other.round(command), this.round(command)) for _ in range(options.rounds)]
                before, after = (median(each.total for each in side) for side in zip(*rounds, strict=True))
                total = median(ours.total / theirs.total for theirs, ours in rounds)
                print(
                    f"{options.subscribers} subscribers, {window} in flight: {before:.3f} -> {after:.3f} us of CPU per "
                    f"delivery, median of the ratios {total:.3f}"
                )


if __name__ == "__main__":
    main()
