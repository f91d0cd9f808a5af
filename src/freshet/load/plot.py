"""A plot of latencies as SVG, by hand: milliseconds by percentile, both logarithmic, so that the tail is seen.

The axis of percentiles is that of HdrHistogram: 50, 90, 99, 99.9 %, equally far from each other.
"""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from freshet.load.report import percentile

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 40, 40  # pixels around the field
POINTS = 200
COLOURS = ("#0969da", "#bc4c00", "#8250df", "#1a7f37")
STYLE = """\
<style>
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 14px }
  .grid { stroke: #d0d7de } .line { fill: none; stroke-width: 2 }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .grid { stroke: #30363d } }
</style>"""


def latencies(title: str, series: Mapping[str, Sequence[int]]) -> str:
    """series: sorted nanoseconds, by name; the empty ones are left out."""
    drawn = {name: samples for name, samples in series.items() if samples}
    nines = max((math.log10(len(samples)) for samples in drawn.values()), default=1.0)
    nines = max(1.0, min(6.0, nines))
    values = [max(0.001, percentile(samples, share)) for samples in drawn.values() for share in (0.0, 1.0)] or [1.0]
    low = math.floor(math.log10(min(values)))
    high = max(low + 1, math.ceil(math.log10(max(values))))

    def x(share: float) -> float:
        """By how many nines it has."""
        return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, -math.log10(max(10**-nines, 1 - share)) / nines)

    def y(milliseconds: float) -> float:
        part = (math.log10(max(0.001, milliseconds)) - low) / (high - low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        STYLE,
        f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>',
    ]
    for power in range(low, high + 1):
        at = y(10.0**power)
        lines.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{_time(10.0**power)}</text>')
    for share in (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999):
        if share < 1 - 10**-nines:
            lines.append(f'<path class="grid" d="M{x(share):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
            lines.append(f'<text x="{x(share):.1f}" y="{HEIGHT - 18}" text-anchor="middle">{share * 100:g} %</text>')
    for number, (name, samples) in enumerate(drawn.items()):
        colour = COLOURS[number % len(COLOURS)]
        shares = [1 - 10 ** (-nines * point / POINTS) for point in range(POINTS + 1)]
        path = " ".join(f"{x(share):.1f},{y(percentile(samples, share)):.1f}" for share in shares)
        lines.append(f'<polyline class="line" stroke="{colour}" points="{path}"/>')
        place = WIDTH - RIGHT - 90 * (len(drawn) - number)
        lines.append(f'<rect x="{place}" y="13" width="10" height="10" fill="{colour}"/>')
        lines.append(f'<text x="{place + 16}" y="22">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _time(milliseconds: float) -> str:
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:g} s"
    return f"{milliseconds:g} ms" if milliseconds >= 1 else f"{milliseconds * 1000:g} us"
