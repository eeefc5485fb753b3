"""The ready jobs of one queue, in the order of their delivery.

Highest priority first, then smallest ``order``. Each priority has a line of its own, so that jobs, which mostly become
ready in rising order, mostly come to an end of one. The highest one stands apart: in most queues there is no other.
"""

from collections.abc import Iterator
from itertools import chain, islice
from operator import attrgetter, neg

from msgspec import Struct, field

from bunqueue_trio.engine import line as lines
from bunqueue_trio.engine.job import Job
from bunqueue_trio.engine.line import Line

Turn = tuple[int, int]
"""The negated priority of a job and its ``order``."""

# Priorities, of two million possible ones a queue: 1 ms in which nobody else is served.
_COUNTED = 1000
# Priorities, since one answer may tell the age of 250 queues: 4 ms for all of them.
_AGED = 50

BY_PLACE = attrgetter("order")


def _priorities() -> Line[int]:
    return Line(neg)


class Lower(Struct, eq=False, gc=False):
    """The lines of the ready jobs of a queue that are not of the highest priority."""

    lines: dict[int, Line[Job]] = {}
    """By priority, those with a job in them."""
    priorities: Line[int] = field(default_factory=_priorities)
    """Theirs, highest first."""

    def put(self, priority: int, line: Line[Job]) -> None:
        """Put in the line of a priority that has none."""
        self.lines[priority] = line
        self.priorities.add(priority)

    def take(self, priority: int) -> Line[Job]:
        """Take out the line of a priority."""
        self.priorities.remove(priority)
        return self.lines.pop(priority)


_NONE = Lower()
"""Of the queues whose jobs have one priority; nobody puts anything in."""


class Ready(Struct, eq=False, gc=False):
    """The ready jobs of one queue; ``len`` costs nothing."""

    _blocks: list[list[Job]] = []
    """The line of the highest priority that has a job. It is made a :class:`Line` where one is needed: a queue with one job takes 32 bytes less."""
    _priority: int = 0
    """That one; any, if there is no job."""
    _lower: Lower = field(default_factory=lambda: _NONE)
    _size: int = 0

    def __len__(self) -> int:
        return self._size

    def add(self, job: Job) -> None:
        """Put in ``job`` at its place."""
        self._size += 1
        if self._size == 1:
            # Not the list that was there: the self-audit may be looking at it, as a line of the priority before.
            self._blocks, self._priority = [[job]], job.priority
            return
        blocks = self._blocks if job.priority == self._priority else self._open(job.priority).blocks
        # Nearly every push ends here, and in half the time of what the line would do.
        if blocks and len(end := blocks[-1]) < lines.BLOCK_MAX and end[-1].order < job.order:
            end.append(job)
        else:
            Line(BY_PLACE, blocks).add(job)

    def fill(self, priority: int, jobs: list[Job]) -> None:
        """Put in all jobs of one priority, sorted by their places; the line must be empty."""
        if not self._size:
            self._priority = priority
        self._open(priority).fill(jobs)
        self._size += len(jobs)

    def _open(self, priority: int) -> Line[Job]:
        """Return the line of a priority; it is made if there is none."""
        line = self.line(priority)
        if line is not None:
            return line
        line = Line(BY_PLACE)
        if self._lower is _NONE:
            self._lower = Lower()
        if priority > self._priority:
            self._lower.put(self._priority, Line(BY_PLACE, self._blocks))
            self._blocks, self._priority = line.blocks, priority
        else:
            self._lower.put(priority, line)
        return line

    def line(self, priority: int) -> Line[Job] | None:
        """Return the line of a priority, or None where there is none."""
        return Line(BY_PLACE, self._blocks) if priority == self._priority else self._lower.lines.get(priority)

    def lines(self) -> Iterator[tuple[int, Line[Job]]]:
        """Iterate over the priorities that have a job, highest first, and their lines; nothing may change meanwhile."""
        if self._size:
            yield self._priority, Line(BY_PLACE, self._blocks)
        for priority in self._lower.priorities:
            yield priority, self._lower.lines[priority]

    def peek(self) -> Job | None:
        """Return the next job, or None."""
        blocks = self._blocks
        return blocks[0][0] if blocks else None

    def take(self, job: Job) -> None:
        """Take out ``job``, wherever it stands; its priority and order are those it came with."""
        blocks = self._blocks
        if blocks and (first := blocks[0])[0] is job and len(first) > 1 and type(first) is list:
            # Nearly every pull ends here, and in a third of the time of what the line would do.
            del first[0]
            self._size -= 1
            return
        is_top = job.priority == self._priority
        line = Line(BY_PLACE, self._blocks) if is_top else self._lower.lines[job.priority]
        line.remove(job)
        self._size -= 1
        if not line.blocks and self._size:
            self._close(job.priority)

    def _close(self, priority: int) -> None:
        """Forget the line of a priority, which is empty, and others are not."""
        lower = self._lower
        if priority == self._priority:
            self._priority = lower.priorities.blocks[0][0]
            self._blocks = lower.take(self._priority).blocks
        else:
            lower.take(priority)
        if not lower.lines:
            self._lower = _NONE

    def after(self, turn: Turn | None) -> Iterator[Job]:
        """Yield the jobs whose turn comes after ``turn``, of None all, in order; nothing may change meanwhile."""
        lower = self._lower
        priorities = iter(lower.priorities)
        if turn is None or -turn[0] > self._priority:
            yield from chain.from_iterable(self._blocks)
        else:
            line = self.line(-turn[0])
            if line is not None:
                yield from line.after(turn[1])
            priorities = lower.priorities.after(turn[0])
        for priority in priorities:
            yield from lower.lines[priority]

    def ahead(self, job: Job) -> tuple[int, int, bool]:
        """Return how many of higher priority and how many of the same stand before ``job``; and whether that are all.

        Of more than 1,000 higher priorities the others are not counted.
        """
        if job.priority == self._priority:
            return 0, Line(BY_PLACE, self._blocks).rank(job), True
        above = 1 + self._lower.priorities.rank(job.priority)
        higher = sum(len(line) for _, line in islice(self.lines(), min(above, _COUNTED)))
        return higher, self._lower.lines[job.priority].rank(job), above <= _COUNTED

    def by_priority(self) -> dict[int, int]:
        """Return how many jobs stand at each priority, highest first; of the first 1,000 priorities."""
        return {priority: len(line) for priority, line in islice(self.lines(), _COUNTED)}

    def ready_since(self) -> int | None:
        """Return when the oldest job got ready, judged by the first of the highest priority and of those in use longest, or None.

        Of LIFO jobs, which stand before the others, only the next one is looked at.
        """
        in_use = chain((Line(BY_PLACE, self._blocks),), islice(self._lower.lines.values(), _AGED - 1))
        first = [(line, job) for line in in_use if (job := line.first()) is not None]
        ages = [job.run_at for _, job in first]
        ages += [job.run_at for line, lifo in first if lifo.order < 0 for job in islice(line.after(0), 1)]
        return min(ages, default=None)
