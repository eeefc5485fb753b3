"""A bar chart of ratios as SVG text: one row a measurement, bars from the line at 1, to the right where ours is better."""

import math
from html import escape
from typing import NamedTuple

WIDTH, LABEL, VALUE, ROW, TOP, BOTTOM = 760, 290, 60, 30, 64, 34
STEPS = (1.25, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)
"""How far the axis may reach to both sides."""

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.small { font-size: 11px; fill: #59636e; }
.axis { stroke: #8c959f; stroke-width: 1; }
.grid { stroke: #d1d9e0; stroke-width: 1; stroke-dasharray: 2 3; }
.better { fill: #1a7f37; } .worse { fill: #bc4c00; } .range { stroke: #59636e; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; } .small { fill: #9198a1; } .grid { stroke: #3d444d; }
  .better { fill: #3fb950; } .worse { fill: #db6d28; } .range { stroke: #9198a1; }
}
"""


class Bar(NamedTuple):
    """One row: the median of the pairs' ratios and their range; above 1 ours is better."""

    label: str
    ratio: float
    low: float
    high: float


def chart(title: str, subtitle: str, bars: list[Bar]) -> str:
    """Return the chart as an SVG document."""
    furthest = max((abs(math.log(value)) for bar in bars for value in bar[1:]), default=0.0)
    reach = next((step for step in STEPS if math.log(step) >= furthest), STEPS[-1])
    height = TOP + ROW * len(bars) + BOTTOM
    left, right = LABEL, WIDTH - VALUE
    middle, half = (left + right) / 2, (right - left) / 2

    def x(ratio: float) -> float:
        """Return where a ratio is on the axis, which is logarithmic: half and double are equally far away."""
        return middle + max(-1.0, min(1.0, math.log(ratio) / math.log(reach))) * half

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<text x="0" y="18" font-weight="600">{escape(title)}</text>',
        f'<text x="0" y="38" class="small">{escape(subtitle)}</text>',
    ]
    bottom = TOP + ROW * len(bars)
    ticks = [1 / reach, 1.0, float(reach)] if reach < 2 else [1 / reach, 0.5, 1.0, 2.0, float(reach)]
    for tick in sorted(set(ticks)):
        kind = "axis" if tick == 1 else "grid"
        out.append(f'<line x1="{x(tick):.1f}" y1="{TOP - 8}" x2="{x(tick):.1f}" y2="{bottom}" class="{kind}"/>')
        out.append(
            f'<text x="{x(tick):.1f}" y="{bottom + 16}" class="small" text-anchor="middle">{_times(tick)}</text>'
        )
    for number, bar in enumerate(bars):
        y = TOP + ROW * number
        start, end = sorted((x(1), x(bar.ratio)))
        kind = "better" if bar.ratio >= 1 else "worse"
        out += [
            f'<text x="{LABEL - 12}" y="{y + 15}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect x="{start:.1f}" y="{y + 2}" width="{end - start:.1f}" height="{ROW - 12}" rx="2" class="{kind}"/>',
            f'<line x1="{x(bar.low):.1f}" y1="{y + 11}" x2="{x(bar.high):.1f}" y2="{y + 11}" class="range"/>',
            f'<text x="{WIDTH}" y="{y + 15}" text-anchor="end">{_times(bar.ratio)}</text>',
        ]
    out += [
        f'<text x="{left}" y="{bottom + 30}" class="small">original is better</text>',
        f'<text x="{right}" y="{bottom + 30}" class="small" text-anchor="end">bunqueue-trio is better</text>',
        "</svg>",
    ]
    return "\n".join(out) + "\n"


def _times(ratio: float) -> str:
    return f"{ratio:.3g}×"
