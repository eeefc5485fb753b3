"""Small charts as SVG, made on the server; every figure that they show is also there as text."""

from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT, PAD = 240, 48, 3


def area(values: Sequence[float], label: str, tone: str = "ink", before: Sequence[float] = ()) -> Markup:
    """Return a line over time with the area below it; ``label`` says what it shows to who cannot see it.

    ``before`` are as many values of another time: a second line, broken and fainter.

    ``tone`` is one of the style sheet's: ``ink``, ``good``, ``bad``.
    """
    if len(values) < 2:
        return Markup('<p class="chart-none">The first minutes are being counted.</p>')
    top = max(*values, *before, 1)
    if not any(values):
        tone = "flat"
    line, was = _line(values, top), _line(before, top) if len(before) > 1 else ""
    beside = Markup('<polyline class="chart-before" points="{}"/>').format(was) if was else ""
    return Markup(
        '<svg class="chart {tone}" viewBox="0 0 {w} {h}" preserveAspectRatio="none" role="img" aria-label="{label}">'
        '<path class="chart-area" d="M0,{h} L{line} L{w},{h} Z"/>{beside}<polyline class="chart-line" points="{line}"/></svg>'
    ).format(tone=tone, w=WIDTH, h=HEIGHT, label=label, line=line, beside=beside)


def _line(values: Sequence[float], top: float) -> str:
    step = WIDTH / (len(values) - 1)
    heights = [round(PAD + (HEIGHT - 2 * PAD) * (1 - value / top)) for value in values]
    last = len(heights) - 1
    return " ".join(
        f"{i * step:.0f},{y}"
        for i, y in enumerate(heights)
        # Between others as high as it a point shows nothing: a page may have a hundred charts.
        if not 0 < i < last or not heights[i - 1] == y == heights[i + 1]
    )


def bar(parts: Sequence[tuple[str, int]]) -> Markup:
    """Return how a whole is shared, as one bar; each part is a class of the style sheet and a number."""
    total = sum(n for _, n in parts)
    if not total:
        return Markup("")
    made, x = [], 0.0
    for tone, n in parts:
        width = 100 * n / total
        if n:
            made.append(
                Markup('<rect class="{}" x="{:.2f}" y="0" width="{:.2f}" height="6"/>').format(tone, x, max(width, 0.6))
            )
        x += width
    whole = Markup("").join(made)
    return Markup('<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">{}</svg>').format(
        whole
    )
