"""Plots as SVG, by hand: they are read beside a table, in light and dark."""

import math
from collections.abc import Mapping
from xml.sax.saxutils import escape

ROW = 24  # pixels
LABELS = 220
LONGEST = 480  # of a bar
STYLE = """\
<style>
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600 }
  rect { fill: #8c959f }
  .ours { fill: #0969da }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } rect { fill: #6e7681 } .ours { fill: #58a6ff } }
</style>"""


def bars(title: str, values: Mapping[str, float], *, ours: str) -> str:
    """A bar for each, its length by the logarithm of its value. ours: names that begin so stand out."""
    low, high = min(values.values()), max(values.values())
    span = math.log(high / low) or 1.0
    height = ROW * (len(values) + 1) + 16
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LABELS + LONGEST + 80} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        STYLE,
        f'<text class="title" x="8" y="18">{escape(title)}</text>',
    ]
    for number, (name, value) in enumerate(values.items(), start=1):
        top = number * ROW + 8
        length = LONGEST * (0.05 + 0.95 * math.log(value / low) / span)
        kind = ' class="ours"' if name.startswith(ours) else ""
        lines += [
            f'<text x="{LABELS - 8}" y="{top + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect{kind} x="{LABELS}" y="{top + 3}" width="{length:.1f}" height="{ROW - 8}" rx="2"/>',
            f'<text x="{LABELS + length + 6:.1f}" y="{top + 15}">{value:.2f}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
