"""The ready jobs of one queue, in the order they are handed out.

Highest priority first, then smallest ``order``. Jobs mostly become ready in rising order, so each
priority has a plain list that is appended to and read from the front (flat cost at any backlog); what
comes out of order (LIFO, jobs that take their old place again) goes to a heap beside it. A job that
was cancelled stays where it is as a blank, and is skipped; blanks are swept when they outnumber jobs.
"""

from bisect import bisect_right
from heapq import heapify, heappop, heappush
from itertools import islice
from operator import attrgetter

from bunqueue_trio.engine.job import Job, State

_WAITING = State.WAITING
_SWEEP_MIN = 64  # below this blanks cost less than the sweep
_LANES_LOOKED_AT = 1000  # of two million possible priorities a queue: 1 ms in which nobody else is served


class Lane:
    """The ready jobs of one priority."""

    __slots__ = ("head", "heap", "line")

    def __init__(self) -> None:
        self.line: list[Job | None] = []
        self.head: int = 0
        self.heap: list[tuple[int, int, Job]] = []

    def add(self, job: Job) -> None:
        """Put in ``job`` at its place."""
        line = self.line
        last = line[-1] if line else None  # never a gap: a line read to its end is emptied
        if job.order > 0 and (last is None or last.order < job.order):
            line.append(job)
        else:
            heappush(self.heap, (job.order, job.seq, job))

    def fill(self, jobs: list[Job]) -> None:
        """Put in ``jobs``, which get sorted by their places; no other is in here."""
        jobs.sort(key=attrgetter("order"))
        first = bisect_right(jobs, 0, key=attrgetter("order"))
        self.line += jobs[first:]
        self.heap += [(job.order, job.seq, job) for job in jobs[:first]]  # in order, so it is a heap

    def peek(self) -> Job | None:
        """Return the first job, dropping the blanks before it."""
        line, heap = self.line, self.heap
        while heap and heap[0][2].state is not _WAITING:
            heappop(heap)
        while self.head < len(line):
            job = line[self.head]
            assert job is not None
            if job.state is _WAITING:
                return heap[0][2] if heap and heap[0][0] < job.order else job
            self._advance()
        return heap[0][2] if heap else None

    def ready_since(self) -> int | None:
        """Return when the oldest of its jobs got ready; of LIFO jobs only the next one is looked at."""
        if self.peek() is None:
            return None
        heads = [entry[2] for entry in self.heap[:1]]
        heads += [job for job in self.line[self.head : self.head + 1] if job is not None]
        return min(job.run_at for job in heads)

    def drop(self, job: Job) -> None:
        """Take out ``job``, which :meth:`peek` just returned."""
        if self.head < len(self.line) and self.line[self.head] is job:
            self._advance()
        else:
            heappop(self.heap)

    def _advance(self) -> None:
        self.line[self.head] = None
        self.head += 1
        if self.head == len(self.line) or (self.head > _SWEEP_MIN and self.head * 2 > len(self.line)):
            del self.line[: self.head]
            self.head = 0

    def sweep(self) -> None:
        """Drop all blanks."""
        self.line = [j for j in self.line[self.head :] if j is not None and j.state is _WAITING]
        self.head = 0
        self.heap = [entry for entry in self.heap if entry[2].state is _WAITING]
        heapify(self.heap)


class Ready:
    """The ready jobs of one queue. ``len`` is exact; a job leaves by :meth:`pop` or :meth:`discard`."""

    __slots__ = ("_blanks", "_lanes", "_priorities", "_size")

    def __init__(self) -> None:
        self._lanes: dict[int, Lane] = {}
        self._priorities: list[int] = []  # negated, a heap; a lane without jobs may linger in it
        self._size = 0
        self._blanks = 0

    def __len__(self) -> int:
        return self._size

    def add(self, job: Job) -> None:
        """Put in ``job``, which is ``waiting``, at its place."""
        lane = self._lanes.get(job.priority)
        if lane is None:
            lane = self._lanes[job.priority] = Lane()
            heappush(self._priorities, -job.priority)
        lane.add(job)
        self._size += 1

    def fill(self, priority: int, jobs: list[Job]) -> None:
        """Put in all ``waiting`` jobs of one priority, which get sorted by their places."""
        lane = self._lanes[priority] = Lane()
        heappush(self._priorities, -priority)
        lane.fill(jobs)
        self._size += len(jobs)

    def pop(self) -> Job | None:
        """Take out the next job, or return None; its state is the caller's to change."""
        while self._priorities:
            lane = self._lanes[-self._priorities[0]]
            job = lane.peek()
            if job is not None:
                lane.drop(job)
                self._size -= 1
                if self._blanks and not self._size:
                    self._clear()
                return job
            del self._lanes[-heappop(self._priorities)]
        return None

    def ready_since(self) -> int | None:
        """Return when the oldest job got ready, judged by the first of each priority, or None."""
        since = [lane.ready_since() for lane in islice(self._lanes.values(), _LANES_LOOKED_AT)]
        return min((at for at in since if at is not None), default=None)

    def discard(self) -> None:
        """Note that one of the jobs in here has just stopped to be ``waiting``."""
        self._size -= 1
        self._blanks += 1
        if not self._size:
            self._clear()
        elif self._blanks > _SWEEP_MIN and self._blanks > self._size:
            for lane in self._lanes.values():
                lane.sweep()
            self._blanks = 0

    def _clear(self) -> None:
        """Let go of the blanks, of which some may be large; no job is left."""
        self._lanes.clear()
        self._priorities.clear()
        self._blanks = 0
