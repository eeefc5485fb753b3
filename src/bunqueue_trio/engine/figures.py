"""What went on in each queue: by the minute for the last hour, by the hour for the last week. Durable and bounded.

A fact holds one minute, or hour, of all queues that have figures, as JSON: ``{"emails":[…]}``. To read the figures of one queue its name is
looked for in these texts: nothing is kept decoded, and nothing is read of the others. The hour that goes on is summed up here.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from bunqueue_trio.config import FIGURES_HOURS, FIGURES_MINUTES, FIGURES_ROWS_MAX, HOUR_MS, MINUTE_MS, USUAL_MIN
from bunqueue_trio.engine.course import Course, Lives
from bunqueue_trio.engine.facts import Facts

MINUTE, HOUR = "figures-minute", "figures-hour"
"""The kinds of facts: a minute by the time of its end, an hour by its number since 1970."""

# A server with much to do looks at all of its queues for seconds when a minute ends.
_LATE_MS = 10_000
_LIST = msgspec.json.Decoder(list[int])
_ROW = msgspec.json.Decoder(dict[str, list[int]])


class QueueMinute(NamedTuple):
    """What happened in a queue within a minute, or an hour, and what was in it at the end."""

    at: int
    pushed: int
    completed: int
    failed: int
    """Attempts, the last of a job that stalls too often too."""
    stalled: int
    retried: int
    waiting: int
    dead: int
    oldest: int = 0
    """For how long the oldest was ready then, in ms; of an hour the longest of its minutes."""
    run: int = 0
    """How long those that completed have run, in ms, all together."""
    runs: Mapping[int, int] = {}
    """How many of them ran for how long, by buckets."""
    died: int = 0
    """Jobs that failed for good of an error that is not muted, kept or not; nobody wanted that."""


# Without the time, the buckets and what stands among them.
_PLAIN = len(QueueMinute._fields) - 3
# What died stands where a bucket does that no time falls into: servers of before read past it.
_DIED = -2
# Queues counted within a minute: names that come once must not fill the memory.
_COUNTED_MAX = 20_000


def bucket_of(ms: int) -> int:
    """Return the bucket of a time: two for each doubling, so that it tells a time within half of it."""
    bits = max(1, ms).bit_length()
    return 2 * bits + (ms >> (bits - 2) & 1 if bits > 1 else 0)


def upper(bucket: int) -> int:
    """Return the longest time that falls into a bucket."""
    bits, half = divmod(bucket, 2)
    return 1 if bits < 2 else ((3 + half) << (bits - 2)) - 1


def part(runs: Mapping[int, int], share: float) -> int | None:
    """Return a time that this share of the runs did not exceed; None: there were no runs."""
    left = sum(runs.values()) * share
    for bucket in sorted(runs):
        left -= runs[bucket]
        if left <= 0:
            return upper(bucket)
    return None


def joined(one: QueueMinute, other: QueueMinute) -> QueueMinute:
    """Return two periods, the ``other`` later than ``one``, as one."""
    runs = dict(one.runs)
    for bucket, n in other.runs.items():
        runs[bucket] = runs.get(bucket, 0) + n
    return QueueMinute(
        other.at, one.pushed + other.pushed, one.completed + other.completed, one.failed + other.failed,
        one.stalled + other.stalled, one.retried + other.retried, other.waiting, other.dead,
        max(one.oldest, other.oldest), one.run + other.run, runs, one.died + other.died,
    )  # fmt: skip


class Lately:
    """What went on in a queue within the last hour, added up: its minutes come and go."""

    __slots__ = ("came", "ended", "last", "minutes", "runs")

    def __init__(self) -> None:
        self.minutes: int = 0
        """How many are added up."""
        self.came: int = 0
        self.ended: int = 0
        """Completed, or died."""
        self.runs: dict[int, int] = {}
        self.last: QueueMinute | None = None
        """The newest of them."""

    def count(self, minute: QueueMinute, times: int) -> None:
        """Add a minute, or take it away: ``times`` -1."""
        self.minutes += times
        self.came += times * minute.pushed
        self.ended += times * (minute.completed + minute.died)
        for bucket, n in minute.runs.items():
            left = self.runs.get(bucket, 0) + times * n
            if left:
                self.runs[bucket] = left
            else:
                del self.runs[bucket]


class Figures:
    """The figures of all queues."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.course: Course = Course(facts)
        self.lives: Lives = Lives(facts)
        self.noted_at: int = 0
        """When the last minute ended; 0: none has."""
        self._hour = 0
        self._sums: dict[str, QueueMinute] = {}
        """Of the hour that goes on."""
        self._lately: dict[str, Lately] = {}
        self.died: dict[str, int] = {}
        """How many have died in each queue since a minute ended."""
        self.failed: dict[str, int] = {}
        """How many attempts have failed."""

    def note_death(self, queue: str) -> None:
        """Count a job that has died of an error that is not muted."""
        _count(self.died, queue)

    def note_failure(self, queue: str) -> None:
        """Count an attempt that has failed."""
        _count(self.failed, queue)

    def take_bad(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return how many jobs have died in each queue since the last call, and how many attempts failed."""
        bad, self.died, self.failed = (self.died, self.failed), {}, {}
        return bad

    def load(self, now: int) -> None:
        """Take up what the facts, just loaded, tell of; an hour that ended meanwhile is summed up."""
        for at, minutes in self.minutes():
            self._count(minutes, 1)
            if str((at - 1) // HOUR_MS) not in self._facts.of(HOUR):
                self._add(at, minutes)
        self._begin_hour(now // HOUR_MS)
        self._drop_old(now)

    def minutes(self) -> Iterator[tuple[int, dict[str, QueueMinute]]]:
        """Yield the minutes that are kept, oldest first, each with its queues."""
        for key in sorted(self._facts.of(MINUTE), key=int):
            yield int(key), _minutes_of(int(key), self._facts.of(MINUTE)[key])

    def end_of_minute(self, now: int) -> int:
        """Return when the minute has ended that is noted ``now``: with that of the clock, if that was a moment ago and no minute has ended since."""
        late = now % MINUTE_MS
        return now - late if late < _LATE_MS and 0 < self.noted_at < now - late else now

    def note(self, at: int, minutes: Mapping[str, QueueMinute]) -> None:
        """End a minute in which something went on in these queues."""
        self.noted_at = at
        self._add(at, minutes)
        self._count(minutes, 1)
        if minutes:
            self._facts.set(MINUTE, str(at), _row(minutes))
        self._drop_old(at)

    def of(self, queue: str) -> tuple[list[QueueMinute], list[QueueMinute]]:
        """Return the minutes and the hours of a queue, oldest first; those in which nothing was there are left out."""
        hours = list(self._find(queue, HOUR))
        if queue in self._sums:
            hours.append(self._sums[queue])
        return list(self._find(queue, MINUTE)), hours

    def lately(self, queue: str) -> Lately | None:
        """Return what went on in a queue within the last hour, by whole minutes; None: nothing, or far less than in others."""
        return self._lately.get(queue)

    def _count(self, minutes: Mapping[str, QueueMinute], times: int) -> None:
        for name, minute in minutes.items():
            lately = self._lately.get(name)
            if lately is None:
                lately = self._lately[name] = Lately()
            lately.count(minute, times)
            if times > 0:
                lately.last = minute
            elif not lately.minutes:
                del self._lately[name]

    def usual(self, queue: str) -> int | None:
        """Return the time that 95 % of the jobs of a queue did not exceed in the last hour, or else in the last week; None: too few ran."""
        for periods in self.of(queue):
            runs: dict[int, int] = {}
            for each in periods:
                for bucket, n in each.runs.items():
                    runs[bucket] = runs.get(bucket, 0) + n
            if sum(runs.values()) >= USUAL_MIN:
                return part(runs, 0.95)
        return None

    def minutes_between(self, since: int, until: int) -> Iterator[dict[str, QueueMinute]]:
        """Yield the minutes of all queues of which a part is in a window."""
        rows = self._facts.of(MINUTE)
        for at in sorted(map(int, rows)):
            if since < at < until + MINUTE_MS:
                yield _minutes_of(at, rows[str(at)])

    def hours_between(self, since: int, until: int) -> Iterator[dict[str, QueueMinute]]:
        """Yield the hours of all queues that a time touches, whole, each by the time of its end; about 1 ms each."""
        rows = self._facts.of(HOUR)
        for hour in range(since // HOUR_MS, (until - 1) // HOUR_MS + 1):
            if hour == self._hour:
                yield dict(self._sums)
            elif str(hour) in rows:
                yield _minutes_of((hour + 1) * HOUR_MS, rows[str(hour)])

    def _find(self, queue: str, kind: str) -> Iterator[QueueMinute]:
        rows, name = self._facts.of(kind), b'"%s":[' % queue.encode()
        for key in sorted(rows, key=int):
            start = rows[key].find(name)
            if start >= 0:
                start += len(name) - 1
                numbers = _LIST.decode(rows[key][start : rows[key].index(b"]", start) + 1])
                # Of an hour the end, as of a minute.
                yield _read((int(key) + 1) * HOUR_MS if kind == HOUR else int(key), numbers)

    def _add(self, at: int, minutes: Mapping[str, QueueMinute]) -> None:
        # A minute that ends with the hour is its last.
        self._begin_hour((at - 1) // HOUR_MS)
        for name, minute in minutes.items():
            before = self._sums.get(name)
            self._sums[name] = minute if before is None else joined(before, minute)

    def _begin_hour(self, hour: int) -> None:
        if hour != self._hour:
            if self._sums:
                self._facts.set(HOUR, str(self._hour), _row(self._sums))
            self._hour, self._sums = hour, {}

    def _drop_old(self, now: int) -> None:
        minutes, hours = sorted(map(int, self._facts.of(MINUTE))), [*map(int, self._facts.of(HOUR))]
        over = max(0, len(minutes) - FIGURES_ROWS_MAX)
        for i, at in enumerate(minutes):
            if i < over or at <= now - FIGURES_MINUTES * MINUTE_MS:
                self._count(_minutes_of(at, self._facts.of(MINUTE)[str(at)]), -1)
                self._facts.delete(MINUTE, str(at))
        for hour in hours:
            if hour <= now // HOUR_MS - FIGURES_HOURS:
                self._facts.delete(HOUR, str(hour))


def _count(counts: dict[str, int], queue: str) -> None:
    if queue in counts or len(counts) < _COUNTED_MAX:
        counts[queue] = counts.get(queue, 0) + 1


def _minutes_of(at: int, row: bytes) -> dict[str, QueueMinute]:
    return {name: _read(at, numbers) for name, numbers in _ROW.decode(row).items()}


def _row(minutes: Mapping[str, QueueMinute]) -> bytes:
    return msgspec.json.encode({name: [*each[1 : _PLAIN + 1], *_flat(each)] for name, each in minutes.items()})


def _flat(minute: QueueMinute) -> Iterable[int]:
    for item in minute.runs.items():
        yield from item
    if minute.died:
        yield from (_DIED, minute.died)


def _read(at: int, numbers: list[int]) -> QueueMinute:
    pairs = iter(numbers[_PLAIN:])
    runs = dict(zip(pairs, pairs, strict=True))
    died = runs.pop(_DIED, 0)
    return QueueMinute._make((at, *numbers[:_PLAIN], runs, died))
