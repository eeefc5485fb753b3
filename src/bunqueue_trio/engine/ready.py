"""The ready jobs of one queue, in the order of their delivery.

Highest priority first, then smallest ``order``. Each priority has a line of its own, so that jobs, which mostly become
ready in rising order, mostly come to an end of one.
"""

from collections.abc import Iterator
from itertools import islice
from operator import attrgetter, neg

from bunqueue_trio.engine import line as lines
from bunqueue_trio.engine.job import Job
from bunqueue_trio.engine.line import Line

Turn = tuple[int, int]
"""The negated priority of a job and its ``order``."""

# Priorities, of two million possible ones a queue: 1 ms in which nobody else is served.
_COUNTED = 1000
# Priorities, since one answer may tell the age of 250 queues: 4 ms for all of them.
_AGED = 50

_order = attrgetter("order")


class Ready:
    """The ready jobs of one queue; ``len`` costs nothing."""

    __slots__ = ("_lines", "_priorities", "_size")

    def __init__(self) -> None:
        self._lines: dict[int, Line[Job]] = {}
        """By priority, those with a job in them."""
        self._priorities: Line[int] = Line(neg)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, job: Job) -> None:
        """Put in ``job`` at its place."""
        line = self._lines.get(job.priority)
        if line is None:
            line = self._open(job.priority)
        self._size += 1
        # Nearly every push ends here, and in half the time of what the line would do.
        if (blocks := line.blocks) and len(end := blocks[-1]) < lines.BLOCK_MAX and end[-1].order < job.order:
            end.append(job)
        else:
            line.add(job)

    def fill(self, priority: int, jobs: list[Job]) -> None:
        """Put in all jobs of one priority, sorted by their places; the line must be empty."""
        self._open(priority).fill(jobs)
        self._size += len(jobs)

    def _open(self, priority: int) -> Line[Job]:
        line = self._lines[priority] = Line(_order)
        self._priorities.add(priority)
        return line

    def peek(self) -> Job | None:
        """Return the next job, or None."""
        priorities = self._priorities.blocks
        return self._lines[priorities[0][0]].blocks[0][0] if priorities else None

    def take(self, job: Job) -> None:
        """Take out ``job``, wherever it stands; its priority and order are those it came with."""
        line = self._lines[job.priority]
        line.remove(job)
        self._size -= 1
        if not line:
            del self._lines[job.priority]
            self._priorities.remove(job.priority)

    def after(self, turn: Turn | None) -> Iterator[Job]:
        """Yield the jobs whose turn comes after ``turn``, of None all, in order; nothing may change meanwhile."""
        priorities = iter(self._priorities)
        if turn is not None:
            line = self._lines.get(-turn[0])
            if line is not None:
                yield from line.after(turn[1])
            priorities = self._priorities.after(turn[0])
        for priority in priorities:
            yield from self._lines[priority]

    def ahead(self, job: Job) -> tuple[int, int, bool]:
        """Return how many of higher priority and how many of the same stand before ``job``; and whether that are all.

        Of more than 1,000 higher priorities the others are not counted.
        """
        above = self._priorities.rank(job.priority)
        higher = sum(len(self._lines[priority]) for priority in islice(self._priorities, min(above, _COUNTED)))
        return higher, self._lines[job.priority].rank(job), above <= _COUNTED

    def by_priority(self) -> dict[int, int]:
        """Return how many jobs stand at each priority, highest first; of the first 1,000 priorities."""
        return {priority: len(self._lines[priority]) for priority in islice(self._priorities, _COUNTED)}

    def ready_since(self) -> int | None:
        """Return when the oldest job got ready, judged by the first of each priority that is in use longest, or None.

        Of LIFO jobs, which stand before the others, only the next one is looked at.
        """
        first = [job for line in islice(self._lines.values(), _AGED) if (job := line.first()) is not None]
        first += [job for lifo in first if lifo.order < 0 for job in islice(self._lines[lifo.priority].after(0), 1)]
        return min((job.run_at for job in first), default=None)
