"""`RESULTS.md`: what was measured last, part by part, each with where and when."""

import argparse
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"


def write(part: str, lines: list[str], file: Path = RESULTS) -> None:
    """Replace one part of the file; the others stay as they are."""
    text = file.read_text()
    begin, end = f"<!-- {part} -->", f"<!-- end of {part} -->"
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = models[0].partition(":")[2].strip() if models else platform.processor()
    where = (
        f"{datetime.now(UTC):%Y-%m-%d}, {processor}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[1]:.0f} with what else ran"
    )
    body = "\n".join([begin, "", *lines, "", f"({where}.)", "", end])
    known = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    text = known.sub(lambda _: body, text) if known.search(text) else f"{text.rstrip()}\n\n{body}\n"
    file.write_text(text)


def report(part: str, lines: list[str], options: argparse.Namespace) -> None:
    """What every benchmark ends with: print its tables, and with --write put them into the file."""
    print("\n".join(lines))
    if options.write:
        write(part, lines)
