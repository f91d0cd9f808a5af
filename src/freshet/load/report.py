"""The figures of a load, as a table, as JSON, and in words what makes them worthless."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from freshet.load.conductor import Measured

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
MILLISECOND = 1e6  # nanoseconds
BUSY = 0.9  # of a core, from which on it is the load that is measured
LATE = 5.0  # milliseconds, p99, from which on the load was late itself


def percentile(samples: Sequence[int], share: float) -> float:
    """Milliseconds, of sorted nanoseconds."""
    return samples[min(len(samples) - 1, int(len(samples) * share))] / MILLISECOND


def figures(measured: Measured, about: dict[str, Any]) -> dict[str, Any]:
    """As --json prints them. about: what was measured."""
    counts = measured.counts
    return {
        **about,
        "whole": measured.is_whole,
        "seconds": round(measured.seconds, 3),
        "connects_per_second": round(measured.connects_per_second, 1),
        "deliveries_per_second": round(counts["deliveries"] / max(1e-9, measured.seconds), 1),
        "published_per_second": round(counts["published"] / max(1e-9, measured.seconds), 1),
        **counts,
        "lost": lost(measured),
        "reason": measured.reason,
        "load_busy": round(measured.busy, 3),
        "latency_ms": {
            name: {"samples": len(samples), **{word: percentile(samples, share) for word, share in SHARES.items()}}
            for name, samples in measured.series.items()
            if samples
        },
    }


def lost(measured: Measured) -> int:
    """By sequence: what was published and did not come."""
    return max(0, measured.counts["due"] - measured.counts["deliveries"])


def table(measured: Measured) -> Table:
    shown = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    shown.add_column("milliseconds")
    for word in (*SHARES, "samples"):
        shown.add_column(word, justify="right", no_wrap=True)
    for name, samples in measured.series.items():
        if samples:
            cells = [f"{percentile(samples, share):,.2f}" for share in SHARES.values()]
            shown.add_row(name, *cells, f"{len(samples):,}")
    return shown


def lines(measured: Measured) -> list[str]:
    """What is counted, each in a line."""
    counts, seconds = measured.counts, max(1e-9, measured.seconds)
    found = [f"{len(measured.series['connect']):,} connects, {measured.connects_per_second:,.0f}/s"]
    if counts["published"]:
        each = f"{counts['published']:,} published, {counts['published'] / seconds:,.0f}/s"
        found += [each, f"{counts['deliveries']:,} deliveries, {counts['deliveries'] / seconds:,.0f}/s"]
        found.append(f"{lost(measured):,} lost of {counts['due']:,}, by sequence")
    words = {
        "repeated": "came twice",
        "refused": "publications refused",
        "closed": "connections closed by the server",
        "turned_away": "times turned away (503) and tried again",
        "unrecovered": "came back and were told that it could not be recovered",
    }
    found += [f"{counts[name]:,} {text}" for name, text in words.items() if counts[name]]
    return [*found, f"the last reason: {measured.reason}"] if measured.reason else found


def doubts(measured: Measured) -> list[str]:
    """Why one should not believe the figures."""
    found = []
    if not measured.is_whole:
        found.append("interrupted: the figures so far")
    if measured.busy > BUSY:
        found.append(f"a process of the load used {measured.busy:.0%} of a core: more --processes, or a lower --rate")
    lag = measured.series["lag"]
    if lag and percentile(lag, 0.99) > LATE:
        found.append(f"the load sent late, p99 {percentile(lag, 0.99):.1f} ms (which is counted as the server's)")
    return found
