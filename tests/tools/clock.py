"""A wall clock that a test turns while a server runs; the monotonic clock goes on."""

from pathlib import Path

from tests.tools.need import missing


def turned_by(file: Path) -> dict[str, str]:
    """The environment of a process whose time differs from the true one as `file` says: `+3600`, seconds."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        missing("faketime")
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
