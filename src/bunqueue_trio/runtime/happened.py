"""What went on in a window of time, from the figures that are kept: looked up in pieces, so that nobody waits for it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import trio

from bunqueue_trio.config import FIGURES_MINUTES, HOUR_MS
from bunqueue_trio.engine.course import Counts
from bunqueue_trio.engine.course import Life as Life
from bunqueue_trio.engine.figures import Figures, QueueMinute

MINUTE_MS = 60_000


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


async def look_back(figures: Figures, since: int, until: int, queue: str | None, now: int) -> Window:
    """Return what went on behind ``since``, up to ``until``, in ``queue`` or in all; lets others run in between."""
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
