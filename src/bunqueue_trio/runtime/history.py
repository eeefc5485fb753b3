"""What happened in the last hours, minute by minute, in memory: the server as a whole, and the queues where most happens.

A job costs three additions, one for each of its events, and a fourth for how long it has run: 0.8 µs in all. What is kept is bounded: a day of the server, an hour of
:data:`QUEUES_KEPT` queues. That of the server begins anew with the process; the minutes of queues are handed on, to be written as figures.
"""

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from heapq import nlargest
from typing import NamedTuple

import trio
from msgspec import Struct

from bunqueue_trio.config import FIGURES_QUEUES, MINUTE_MS, QUEUES_A_TURN, QUEUES_RANKED
from bunqueue_trio.engine.figures import Figures, bucket_of
from bunqueue_trio.engine.figures import QueueMinute as QueueMinute
from bunqueue_trio.engine.figures import part as part
from bunqueue_trio.protocol.events import Event
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.new_errors import NewError, NewErrors
from bunqueue_trio.runtime.picture import QueueLook
from bunqueue_trio.storage.rows import FinishedRow

# Of the server: enough to tell how fast a disk fills up.
MINUTES_KEPT = 24 * 60
QUEUE_MINUTES_KEPT = 60
# With a line of their own; 60 small tuples each.
QUEUES_KEPT = 500
# Queues counted within a minute: names that come once must not fill the memory.
COUNTED_MAX = 20_000

_PLACE = {"pushed": 0, "completed": 1, "stalled": 3, "retried": 4}
# Not by events: a job fails without an attempt, too, when somebody discards it, or what it waits for.
_FAILED = 2
_NOTHING = [0] * 5
_ALL_MS = -1
_ENDED_WELL = frozenset({"completed", "removed"})
"""States of records of jobs that have completed."""


class Minute(NamedTuple):
    """The server at the end of a minute: totals since the start, and what was the case then."""

    at: int
    pushed: int
    completed: int
    failed: int
    """Jobs that failed for good."""
    stalled: int
    lost_to_stalls: int
    waiting: int
    active: int
    dead: int
    pending: int
    is_failing: bool
    log_bytes: int
    file_bytes: int
    disk_free: int
    dropped: int
    faults: int
    restarts: int
    commits: tuple[int, ...]
    """The histogram of commits."""
    lags: tuple[int, ...]
    """That of the lateness of the event loop."""
    late: int = 0
    """How often a schedule has missed its time."""


class Past(Struct, frozen=True):
    """What the history knows, oldest minute first; never changed, but for what is counted of the minute that goes on."""

    minutes: Sequence[Minute] = ()
    queues: Mapping[str, Sequence[QueueMinute]] = {}
    died: Mapping[str, int] = {}
    """How many died in each queue since the last minute ended."""
    counted: Mapping[str, Sequence[int]] = {}
    """What else happened in each queue since then, in the order of the fields of a minute."""
    failed: Mapping[str, int] = {}
    """How many attempts failed in each queue since then, beside those counted."""
    errors: Sequence[NewError] = ()
    """Those of the last hour that are new."""

    def with_now(self, queue: str, minutes: Sequence[QueueMinute], now: int) -> list[QueueMinute]:
        """Return minutes of a queue, and behind them the one that goes on, if anything has happened in it."""
        counts, died = _with(self.counted.get(queue, _NOTHING), self.failed.get(queue, 0)), self.died.get(queue, 0)
        if not (died or any(counts)):
            return list(minutes)
        return [*minutes, QueueMinute._make((now, *counts, 0, 0, 0, 0, {}, died))]

    def since(self, at: int) -> Minute | None:
        """Return the oldest minute that is not before ``at``; None when there is none yet."""
        return next((minute for minute in self.minutes if minute.at >= at), None)

    def of(self, queue: str, since: int) -> list[QueueMinute]:
        """Return the minutes of a queue from ``since`` on."""
        line = self.queues.get(queue, ())
        # From the end: what is asked for is mostly the last quarter of an hour.
        start = len(line)
        while start and line[start - 1].at >= since:
            start -= 1
        return list(line[start:])


class History:
    """Keeps the minutes. ``committed`` counts, ``note`` ends a minute."""

    def __init__(self) -> None:
        self._minutes: deque[Minute] = deque(maxlen=MINUTES_KEPT)
        self._lines: dict[str, deque[QueueMinute]] = {}
        self._counted: dict[str, list[int]] = {}
        self.errors: NewErrors = NewErrors()
        self._runs: dict[str, Counter[int]] = {}
        """How many of the jobs of each queue that have completed ran for how long, by buckets; at -1 all these ms."""

    def load(self, figures: Figures) -> None:
        """Take up the minutes of queues that a process before this one has noted."""
        for _, minutes in figures.minutes():
            for name, minute in minutes.items():
                self._lines.setdefault(name, deque(maxlen=QUEUE_MINUTES_KEPT)).append(minute)

    def count(self, heard: Sequence[Event], finished: Sequence[FinishedRow]) -> None:
        """Count what is committed (one of ``Afterwards.on_rows``)."""
        counted = self._counted
        for event in heard:
            place = _PLACE.get(event.event_type)
            if place is None:
                continue
            counts = counted.get(event.queue)
            if counts is None:
                if len(counted) >= COUNTED_MAX:
                    continue
                counts = counted[event.queue] = [*_NOTHING]
            counts[place] += 1
        if not finished:
            return
        runs = self._runs
        self.errors.note(finished)
        for row in finished:
            if row.started_at is not None and row.state in _ENDED_WELL:
                buckets = runs.get(row.queue)
                if buckets is None:
                    if len(runs) >= COUNTED_MAX:
                        continue
                    buckets = runs[row.queue] = Counter()
                ms = row.finished_at - row.started_at
                buckets[bucket_of(ms)] += 1
                buckets[_ALL_MS] += ms

    async def note(
        self, minute: Minute, queues: Sequence[QueueLook], died: Mapping[str, int], failed: Mapping[str, int]
    ) -> dict[str, QueueMinute]:
        """End a minute: keep how the server and its queues were, how many jobs ``died`` and attempts ``failed``; lets others run in between.

        Returns the minute of each queue that had jobs or activity.
        """
        self._minutes.append(minute)
        self.errors.forget(minute.at)
        counted, self._counted = self._counted, {}
        all_runs, self._runs = self._runs, {}
        told: dict[str, QueueMinute] = {}
        await trio.lowlevel.checkpoint()
        looks = {each.name: each for each in queues}
        lines = self._lines

        def activity(name: str) -> tuple[int, int]:
            return sum(counted.get(name, ())) + failed.get(name, 0), looks[name].jobs if name in looks else 0

        known = [name for name in lines if name in looks or name in counted or name in died or name in failed]
        await trio.lowlevel.checkpoint()
        names, kept = [*dict.fromkeys([*known, *looks, *counted, *died, *failed])], list[str]()
        await trio.lowlevel.checkpoint()
        for begin in range(0, len(names), QUEUES_RANKED):
            kept = nlargest(QUEUES_KEPT, [*kept, *names[begin : begin + QUEUES_RANKED]], key=activity)
            await trio.lowlevel.checkpoint()
        for i, name in enumerate(kept):
            if i % QUEUES_A_TURN == 0:
                await trio.lowlevel.checkpoint()
            line = lines.pop(name, None)
            if line is None:
                line = deque(maxlen=QUEUE_MINUTES_KEPT)
            look = looks.get(name)
            since = None if look is None else look.oldest_ready_at
            holds = (look.waiting, look.died) if look else (0, 0)
            runs = all_runs.get(name, Counter())
            numbers = (
                *_with(counted.get(name, _NOTHING), failed.get(name, 0)),
                *holds,
                0 if since is None else max(0, minute.at - since),
                runs.pop(_ALL_MS, 0),
            )
            line.append(QueueMinute._make((minute.at, *numbers, dict(runs), died.get(name, 0))))
            lines[name] = line
            if (any(numbers) or name in died) and len(told) < FIGURES_QUEUES:
                told[name] = line[-1]
        # Those that were written to stand last: what stands before them is quieter, or gone.
        for name in list(lines):
            if lines[name][-1].at == minute.at:
                break
            del lines[name]
        return told

    def whole(self, failed: Mapping[str, int]) -> list[int]:
        """Return what happened in all queues together in the minute that goes on; ``failed``: how many attempts failed in each."""
        sums = [sum(column) for column in zip(*self._counted.values(), strict=True)] or [*_NOTHING]
        sums[_FAILED] += sum(failed.values())
        return sums

    def past(self, died: Mapping[str, int], failed: Mapping[str, int], marked: Collection[str] = ()) -> Past:
        """Return what is known by now; ``died`` counts the jobs since the last minute ended, ``failed`` the attempts; of errors that are ``marked`` nothing is said here."""
        lines = {name: tuple(line) for name, line in self._lines.items()}
        return Past(tuple(self._minutes), lines, dict(died), self._counted, dict(failed), self.errors.told(marked))


def _with(counts: Sequence[int], failed: int) -> Sequence[int]:
    if not failed:
        return counts
    return [n + failed if place == _FAILED else n for place, n in enumerate(counts)]


_EARLY_MS = 1000


class Minutes:
    """The service that ends the minutes of a history."""

    def __init__(self, note: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._note = note
        self._clock = clock
        self._first = True

    async def wait_due(self) -> None:
        """Sleep until the minute of the clock ends, so that a window from 02:05 to 02:20 has whole ones; the first one ends at once, for a start."""
        if not self._first:
            left = MINUTE_MS - self._clock.now() % MINUTE_MS
            # Who wakes a moment too early does not end it twice.
            await trio.sleep((left if left > _EARLY_MS else left + MINUTE_MS) / 1000)
        self._first = False
        await trio.lowlevel.checkpoint()

    async def step(self) -> None:
        """End one."""
        await self._note()
