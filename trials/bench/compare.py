"""The comparison: the same load on both servers in turn, in pairs, each measurement on a fresh server with fresh data.

On a machine that does other things too, two numbers that were taken a second apart can be compared and two that were
taken a minute apart cannot. So each pair gives one ratio, the order alternates, and the median of the ratios is what counts.
"""

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trials.bench.engine import measure_backlog
from trials.bench.loads import MEASUREMENTS, Measurement, Numbers, Timing, cycle_at, measure
from trials.lib.raw_http import fill
from trials.lib.servers import BenchError, Kind, running

LOWER_IS_BETTER = {"p50_ms", "p99_ms", "cpu_us", "bytes_per_job", "start_s", "idle_mb"}


@dataclass(frozen=True)
class Plan:
    """What is to be measured, how often and how long."""

    kinds: tuple[Kind, ...]
    """Ours, and the original if it is there."""
    rounds: int
    timing: Timing
    measurements: Sequence[Measurement]
    backlogs: tuple[tuple[int, ...], ...]
    """For each kind, in rising order."""
    backlog_jobs: int
    """How many wait when memory and start-up are measured; 0: they are not."""
    data_dir: Path | None = None


@dataclass
class Series:
    """One measurement over all rounds: for each kind the numbers of each round, in the same order."""

    name: str
    title: str
    unit: str | None
    rounds: dict[str, list[Numbers]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    """Why a kind has no numbers, or not all."""
    failed: bool = False
    """Whether something went wrong, rather than being impossible."""

    def fail(self, kind: Kind, error: Exception) -> None:
        """Note that a measurement went wrong; the others go on."""
        self.problems[kind.name] = str(error)
        self.failed = True
        _progress(f"FAILED: {error}")

    def median(self, kind: str, metric: str) -> float | None:
        """Return the median over the rounds."""
        values = [numbers[metric] for numbers in self.rounds.get(kind, []) if metric in numbers]
        return statistics.median(values) if values else None

    def advantages(self, metric: str) -> list[float]:
        """Return for each pair how many times better ours is: above 1 it is faster, cheaper or smaller."""
        pairs = list(self.rounds.values())
        if len(pairs) != 2:
            return []  # there is nothing to compare with
        both = [(a[metric], b[metric]) for a, b in zip(*pairs, strict=True) if a.get(metric) and b.get(metric)]
        return [theirs / ours if metric in LOWER_IS_BETTER else ours / theirs for ours, theirs in both]

    def as_json(self) -> dict[str, Any]:
        """Return everything that was measured."""
        metrics = {metric for rounds in self.rounds.values() for numbers in rounds for metric in numbers}
        return {
            "title": self.title,
            "unit": self.unit,
            "rounds": self.rounds,
            "left_out": self.problems,
            "median": {kind: {m: self.median(kind, m) for m in sorted(metrics)} for kind in self.rounds},
            "advantage": {m: statistics.median(a) for m in sorted(metrics) if (a := self.advantages(m))},
        }


def compare(plan: Plan) -> list[Series]:
    """Measure everything in the plan, round by round, so that a slow minute of the machine hurts everything alike."""
    all_series = [Series(m.name, m.title, m.unit) for m in plan.measurements]
    for number in range(plan.rounds):
        for series, measurement in zip(all_series, plan.measurements, strict=True):
            _progress(f"round {number + 1} of {plan.rounds}: {measurement.title}")
            _pair(series, measurement, plan, reverse=bool(number % 2))
    all_series += _backlog_costs(plan)
    if plan.backlog_jobs:
        all_series.append(_memory(plan))
    return all_series


def _pair(series: Series, measurement: Measurement, plan: Plan, *, reverse: bool) -> None:
    """Measure on each kind; a pair counts only when both have numbers."""
    if series.problems:
        return
    found: dict[str, Numbers] = {}
    for kind in reversed(plan.kinds) if reverse else plan.kinds:
        try:
            with running(kind, plan.data_dir) as server:
                numbers = measure(measurement, server, plan.timing)
        except BenchError as error:
            series.fail(kind, error)
            return
        if isinstance(numbers, str):
            series.problems[kind.name] = numbers
            _progress(f"left out: {numbers}")
            return
        found[kind.name] = numbers
    for kind in plan.kinds:
        series.rounds.setdefault(kind.name, []).append(found[kind.name])


def _backlog_costs(plan: Plan) -> list[Series]:
    """Measure what a job costs while more and more of them wait; the backlog keeps its size meanwhile.

    Here both servers run at once, since filling takes long; only one of them has something to do.
    """
    all_series = []
    waiting = dict.fromkeys(plan.kinds, 0)
    with ExitStack() as stack:
        servers = {kind: stack.enter_context(running(kind, plan.data_dir)) for kind in plan.kinds}
        for backlog in sorted({backlog for backlogs in plan.backlogs for backlog in backlogs}):
            title = f"HTTP push + pull + ack, {backlog:,} waiting"
            series = Series(f"backlog-{backlog}", title, "cycles")
            all_series.append(series)
            _progress(title)
            for kind, backlogs in zip(plan.kinds, plan.backlogs, strict=True):
                if backlog not in backlogs:
                    continue
                try:
                    with servers[kind].connect() as connection:
                        fill(connection, "backlog", backlog - waiting[kind])
                    waiting[kind] = backlog
                    series.rounds[kind.name] = [cycle_at(servers[kind], backlog, plan.timing)]
                except (BenchError, OSError) as error:
                    series.fail(kind, error)
    return all_series


def _memory(plan: Plan) -> Series:
    """Measure what waiting jobs cost in memory and at the start."""
    series = Series("backlog-memory", f"{plan.backlog_jobs:,} waiting jobs", None)
    for kind in plan.kinds:
        _progress(f"{kind.name}: memory and start-up with {plan.backlog_jobs:,} waiting")
        try:
            series.rounds[kind.name] = [measure_backlog(kind, plan.backlog_jobs, plan.data_dir)]
        except (BenchError, OSError) as error:
            series.fail(kind, error)
    return series


def select(names: Sequence[str]) -> list[Measurement]:
    """Return the measurements of those names, or all.

    Raises:
        ValueError: there is none of a name.
    """
    known = {measurement.name: measurement for measurement in MEASUREMENTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no measurement {unknown[0]!r}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(MEASUREMENTS)


def filesystem(data_dir: Path | None) -> str:
    """Return the type of the file system that the data are on: on a RAM disk an fsync costs nothing."""
    target = (data_dir or Path(tempfile.gettempdir())).resolve()
    best, kind = 0, "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, fs, *_ = line.split()
        if target.is_relative_to(mount) and len(mount) >= best:
            best, kind = len(mount), fs
    return kind


def _progress(text: str) -> None:
    print(f"bench: {text}", flush=True)
