"""How results are shown: tables on the terminal, the same as Markdown, and docs/measured/benchmarks.md with its chart."""

import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from trials.bench.compare import Series
from trials.bench.engine import Check
from trials.lib.chart import Bar, chart
from trials.lib.places import ROOT

DOCS = ROOT / "docs" / "measured" / "benchmarks.md"
CHART = DOCS.with_suffix(".svg")

CLIENT_CPU_MAX = 0.8

# How a number of each metric is written: format, unit, and what it is called where it stands in a row of its own.
METRICS = {
    "rate": ("{:,.0f}", "/s", ""),
    "cpu_us": ("{:,.1f}", " µs", ""),
    "p50_ms": ("{:,.2f}", " ms", "median latency"),
    "p99_ms": ("{:,.2f}", " ms", "99th percentile"),
    "bytes_per_job": ("{:,.0f}", " bytes", "memory for each"),
    "start_s": ("{:,.2f}", " s", "start until ready"),
    "idle_mb": ("{:,.0f}", " MB", "memory without them"),
}

Row = list[str]


def comparison_rows(all_series: Sequence[Series], kinds: Sequence[str]) -> tuple[Row, list[Row]]:
    """Return head and rows: for each measurement the medians, the median ratio and its range, CPU and its ratio."""
    head = ["Load", *kinds, "ratio", "range", *(f"CPU, {kind}" for kind in kinds), "CPU ratio"]
    rows = []
    for series in all_series:
        for metric in _main_metrics(series):
            label = series.title if metric == "rate" else f"{series.title}: {METRICS[metric][2]}"
            cpu = metric == "rate"
            rows.append([
                label,
                *(written(metric, series.median(kind, metric)) for kind in kinds),
                *_ratio(series.advantages(metric)),
                *(written("cpu_us", series.median(kind, "cpu_us")) if cpu else "" for kind in kinds),
                _ratio(series.advantages("cpu_us"))[0] if cpu else "",
            ])  # fmt: skip
    return head, rows


def latency_rows(all_series: Sequence[Series], kinds: Sequence[str]) -> tuple[Row, list[Row]]:
    """Return head and rows of the latencies of those measurements that have rates as well."""
    head = ["Latency", *(f"{kind}: {part}" for part in ("median", "99 %") for kind in kinds)]
    rows = [
        [s.title, *(written(metric, s.median(kind, metric)) for metric in ("p50_ms", "p99_ms") for kind in kinds)]
        for s in all_series
        if any("rate" in numbers and "p50_ms" in numbers for rounds in s.rounds.values() for numbers in rounds)
    ]
    return head, rows


def engine_rows(engine: dict[str, Any]) -> tuple[Row, list[Row]]:
    """Return head and rows of the engine alone."""
    head = ["Waiting jobs", "push", "pull", "ack", "filling, a push", "page faults a job, first / later"]
    rows = [
        [
            f"{int(size):,}",
            *(f"{costs['median'][name]:.2f} µs" for name in ("push", "pull", "ack")),
            f"{costs['fill_us']:.2f} µs",
            f"{costs['first']['faults']:.4f} / {costs['median']['faults']:.4f}",
        ]
        for size, costs in engine["backlogs"].items()
    ]
    return head, rows


def busy_clients(all_series: Sequence[Series]) -> list[str]:
    """Return a line for each number that the load generator may have limited: it had hardly any time left."""
    return [
        f"{series.title}, {kind}: the load generator used {used:.0%} of a core and may be what is measured"
        for series in all_series
        for kind in series.rounds
        if (used := series.median(kind, "client_cpu")) is not None and used > CLIENT_CPU_MAX
    ]


def check_rows(checks: Sequence[Check], *, judged: bool = True) -> tuple[Row, list[Row]]:
    """Return head and rows of the requirements; with other sizes than they are meant for nothing is judged."""
    head = ["Required", "found", "at most", ""]
    verdicts = {True: "met", False: "MISSED"} if judged else {True: "", False: ""}
    rows = [[c.title, f"{c.value:,.2f} {c.unit}", f"{c.limit:g}", verdicts[c.is_met]] for c in checks]
    return head, rows


def floor_rows(floor: dict[str, dict[str, float]], title: str = "Floor") -> tuple[Row, list[Row]]:
    """Return head and rows of numbers that stand alone."""
    head = [title, "rate", "CPU"]
    rows = [
        [title, *(written(metric, numbers.get(metric)) for metric in ("rate", "cpu_us"))]
        for title, numbers in floor.items()
    ]
    return head, rows


def show(title: str, head: Row, rows: list[Row]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    # Without a terminal there is no width to keep to, and a table cut off in a file helps nobody.
    Console(width=None if console.is_terminal else 170).print(table)


def markdown(head: Row, rows: list[Row]) -> str:
    """Return the same table for the document."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def written(metric: str, value: float | None) -> str:
    """Return a number with its unit."""
    form, unit, _ = METRICS[metric]
    return "–" if value is None else form.format(value) + unit


def draw(all_series: Sequence[Series], rounds: int) -> str:
    """Return the chart of the main ratios."""
    bars = []
    for series in all_series:
        for metric in _main_metrics(series):
            ratios = series.advantages(metric)
            if ratios and metric not in {"p99_ms", "idle_mb"}:
                label = series.title if metric == "rate" else f"{series.title}: {METRICS[metric][2]}"
                bars.append(Bar(_short(label), statistics.median(ratios), min(ratios), max(ratios)))
    return chart(
        "bunqueue-trio compared with bunqueue",
        f"Median ratio of {rounds} pair{'s' * (rounds != 1)}; the thin line is the range. Rates, and times and bytes inverted.",
        bars,
    )


def _short(label: str) -> str:
    """Return a label that fits beside its bar."""
    for long, short in (("HTTP push + pull + ack, ", "Cycle, "), (" waiting jobs", " waiting"), ("WebSocket", "WS")):
        label = label.replace(long, short)
    return label


def _main_metrics(series: Series) -> list[str]:
    """Return the metrics of a measurement that get a row."""
    found = {metric for rounds in series.rounds.values() for numbers in rounds for metric in numbers}
    if "rate" in found:
        return ["rate"]
    return [metric for metric in METRICS if metric in found and METRICS[metric][2]]


def _ratio(ratios: list[float]) -> tuple[str, str]:
    if not ratios:
        return "–", "–"
    spread = f"{min(ratios):.2f} – {max(ratios):.2f}" if len(ratios) > 1 else "one pair"
    return f"{statistics.median(ratios):.2f}×", spread
