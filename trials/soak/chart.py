"""Lines over time as SVG text: one small panel for each measurement, all with the same time below."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from trials.lib.chart import STYLE, WIDTH

LEFT, RIGHT, TOP, PANEL, GAP, BOTTOM = 190, 60, 64, 64, 18, 34
COLUMNS = STYLE + ".line { fill: none; stroke: #0969da; stroke-width: 1.3; } .warm { fill: #59636e; opacity: 0.12; }\n"


class Panel(NamedTuple):
    """One measurement: its name and unit, and a value for each time."""

    label: str
    values: Sequence[float]


def chart(title: str, subtitle: str, minutes: Sequence[float], warm_up: float, panels: Sequence[Panel]) -> str:
    """Return the chart as an SVG document; the time up to `warm_up` is shaded. Each panel begins at 0."""
    height = TOP + (PANEL + GAP) * len(panels) + BOTTOM
    end = max(minutes[-1], 1e-9)

    def x(minute: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * minute / end

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{COLUMNS}</style>",
        f'<text x="0" y="18" font-weight="600">{escape(title)}</text>',
        f'<text x="0" y="38" class="small">{escape(subtitle)}</text>',
        f'<rect x="{x(0):.1f}" y="{TOP - 6}" width="{x(warm_up) - x(0):.1f}" '
        f'height="{height - TOP - BOTTOM}" class="warm"/>',
    ]
    for number, panel in enumerate(panels):
        top = TOP + (PANEL + GAP) * number
        bottom, most = top + PANEL, max(*panel.values, 1e-9)
        points = " ".join(
            f"{x(minute):.1f},{bottom - PANEL * value / most:.1f}"
            for minute, value in zip(minutes, panel.values, strict=True)
        )
        out += [
            f'<line x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}" class="axis"/>',
            f'<line x1="{LEFT}" y1="{top}" x2="{WIDTH - RIGHT}" y2="{top}" class="grid"/>',
            f'<text x="{LEFT - 12}" y="{top + PANEL / 2 + 4}" text-anchor="end">{escape(panel.label)}</text>',
            f'<text x="{WIDTH}" y="{top + 5}" class="small" text-anchor="end">{most:.3g}</text>',
            f'<text x="{WIDTH}" y="{bottom + 4}" class="small" text-anchor="end">0</text>',
            f'<polyline points="{points}" class="line"/>',
        ]
    for part in range(5):
        minute = end * part / 4
        out.append(
            f'<text x="{x(minute):.1f}" y="{height - 12}" class="small" text-anchor="middle">{minute:.3g} min</text>'
        )
    return "\n".join([*out, "</svg>"]) + "\n"
