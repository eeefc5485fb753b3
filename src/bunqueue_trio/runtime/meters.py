"""What is counted while the server works, for whoever scrapes it: plain numbers, no text, no library.

An observation is a bisection and two additions (0.13 µs measured); reading is left to the metrics page.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import trio

from bunqueue_trio.config import LOOP_LAG_MS
from bunqueue_trio.protocol.catalog import CATALOG
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.protocol.events import Event
from bunqueue_trio.storage.rows import FinishedRow
from bunqueue_trio.storage.store import Batch

# An engine step takes 0.01 to 0.1 ms and a commit about 1 ms; beyond 10 s nobody waits for an answer.
LATENCY_MS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)
# Jobs wait and run from milliseconds to the day that the longest timeout lasts.
LIFE_MS = (1, 5, 10, 50, 100, 500, 1000, 5000, 10_000, 60_000, 300_000, 1_800_000, 3_600_000, 21_600_000, 86_400_000)
ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


class HistogramFigures(NamedTuple):
    """A histogram at one moment: how many values each of its buckets has, the last one those above every bound."""

    bounds: Sequence[float]
    counts: tuple[int, ...]
    sum: float


class Histogram:
    """Observations counted by the smallest of ``bounds`` that they do not exceed."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds: Sequence[float] = bounds
        self.counts: list[int] = [0] * (len(bounds) + 1)
        self.sum: float = 0.0

    def observe(self, value: float) -> None:
        """Count ``value``."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)

    def figures(self) -> HistogramFigures:
        """Return what was counted so far."""
        return HistogramFigures(self.bounds, tuple(self.counts), self.sum)


class Meters:
    """The histograms of one server."""

    def __init__(self) -> None:
        self.push: Histogram = Histogram(LATENCY_MS)
        """Answering pushes, with their commit."""
        self.pull: Histogram = Histogram(LATENCY_MS)
        """Answering pulls, without the time that a waiting pull had nothing to take."""
        self.ack: Histogram = Histogram(LATENCY_MS)
        groups = {"push": self.push, "pull": self.pull, "ack": self.ack}
        self.by_command: dict[type[Command], Histogram] = {
            spec.command: groups[spec.timed] for spec in CATALOG if spec.timed is not None
        }
        """Which commands are timed, and where."""
        self.wait: Histogram = Histogram(LIFE_MS)
        """From when a job first was ready to its delivery."""
        self.run: Histogram = Histogram(LIFE_MS)
        """From the last delivery of a job to its end."""
        self.commit: Histogram = Histogram(LATENCY_MS)
        self.commit_rows: Histogram = Histogram(ROWS)
        self.loop_lag: Histogram = Histogram(LATENCY_MS)

    def figures(self) -> Mapping[str, HistogramFigures]:
        """Return what was counted so far, by the names of the histograms."""
        return {name: value.figures() for name, value in vars(self).items() if isinstance(value, Histogram)}

    def committed(self, batch: Batch, seconds: float) -> None:
        """Count a commit (one of ``Journal.on_told``)."""
        self.commit.observe(seconds * 1000)
        self.commit_rows.observe(batch.rows())

    def count(self, heard: Sequence[Event], finished: Sequence[FinishedRow]) -> None:
        """Count how long jobs ran (one of ``Afterwards.on_rows``)."""
        for row in finished:
            if row.started_at is not None:
                self.run.observe(row.finished_at - row.started_at)


class LoopLag:
    """Looks how late the event loop wakes a task that sleeps: what every request waits on top of its own work."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._due = 0.0

    async def wait_due(self) -> None:
        """Sleep one period."""
        self._due = trio.current_time() + LOOP_LAG_MS / 1000
        await trio.sleep_until(self._due)

    async def step(self) -> None:
        """Count by how much that took too long."""
        self._histogram.observe(max(0.0, trio.current_time() - self._due) * 1000)
