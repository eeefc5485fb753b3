"""What went on in a window of time, from the figures that are kept: looked up in pieces, so that nobody waits for it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import trio

from bunqueue_trio.config import FIGURES_MINUTES, HOUR_MS, MINUTE_MS
from bunqueue_trio.engine.course import Counts
from bunqueue_trio.engine.course import Life as Life
from bunqueue_trio.engine.figures import Figures, QueueMinute
from bunqueue_trio.runtime.clock import Clock

# Windows that are remembered: 100 KB each with the most queues.
KNOWN_MAX = 16


class Window(NamedTuple):
    """What went on between two moments."""

    line: Sequence[Counts]
    """Oldest first; a minute or an hour in which nothing happened is left out."""
    unit: int
    """How long each of the line is, in ms."""
    queues: Mapping[str, Counts]
    """The sums of each queue, as far as there are figures of it."""
    covers: int
    """For how many ms the sums are: whole hours where the minutes are gone."""
    since: int | None
    """Since when there are figures at all; None: there are none yet."""


class LookBack:
    """Looks up windows, and remembers the last of them until another minute has ended: a page is looked at every few seconds."""

    def __init__(self, figures: Figures, clock: Clock) -> None:
        self._figures = figures
        self._clock = clock
        self._known: dict[tuple[int, int, int, str | None], Window] = {}

    @property
    def noted_at(self) -> int:
        """When the last minute ended that is counted; 0: none has."""
        return self._figures.noted_at

    async def between(self, since: int, until: int, queue: str | None) -> Window:
        """Return what went on behind ``since``, up to ``until``, in ``queue`` or in all; lets others run in between."""
        key = self.noted_at, since, until, queue
        if key not in self._known:
            found = await self._look(since, until, queue)
            if len(self._known) >= KNOWN_MAX or any(each[0] != key[0] for each in self._known):
                self._known.clear()
            self._known[key] = found
        return self._known[key]

    async def _look(self, since: int, until: int, queue: str | None) -> Window:
        figures, now = self._figures, self._clock.now()
        are_minutes = since >= now - FIGURES_MINUTES * MINUTE_MS
        unit = MINUTE_MS if are_minutes else HOUR_MS
        periods = figures.minutes_between(since, until) if are_minutes else figures.hours_between(since, until)
        sums: dict[str, Counts] = {}
        line: list[Counts] = []
        for period in periods:
            for name, minute in period.items():
                if queue is None or name == queue:
                    sums[name] = _joined(sums.get(name), minute)
            if queue in period:
                line.append(_joined(None, period[queue]))
            await trio.lowlevel.checkpoint()
        if queue is None:
            line, unit = await _whole(figures.course.between(since, until)), MINUTE_MS
        begin, end = (since, until) if are_minutes else (since // HOUR_MS * HOUR_MS, -(-until // HOUR_MS) * HOUR_MS)
        return Window(line, unit, sums, max(1, min(end, now) - begin), figures.course.since())


async def _whole(minutes: Iterable[Counts]) -> list[Counts]:
    line: list[Counts] = []
    for i, minute in enumerate(minutes):
        line.append(minute)
        if i % FIGURES_MINUTES == FIGURES_MINUTES - 1:
            await trio.lowlevel.checkpoint()
    return line


def _joined(sums: Counts | None, minute: QueueMinute) -> Counts:
    was = sums or Counts(0)
    return Counts(
        minute.at, was.pushed + minute.pushed, was.completed + minute.completed, was.failed + minute.failed,
        was.stalled + minute.stalled, was.retried + minute.retried,
    )  # fmt: skip
