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

    __slots__ = ("blanks", "head", "heap", "line", "size")

    def __init__(self) -> None:
        self.size: int = 0
        self.blanks: int = 0
        self.line: list[Job | None] = []
        self.head: int = 0
        self.heap: list[tuple[int, int, Job]] = []

    def add(self, job: Job) -> None:
        """Put in ``job`` at its place."""
        self.size += 1
        line = self.line
        last = line[-1] if line else None  # never a gap: a line read to its end is emptied
        if job.order > 0 and (last is None or last.order < job.order):
            line.append(job)
        else:
            heappush(self.heap, (job.order, job.seq, job))

    def fill(self, jobs: list[Job]) -> None:
        """Put in ``jobs``, which get sorted by their places; no other is in here."""
        self.size = len(jobs)
        jobs.sort(key=attrgetter("order"))
        first = bisect_right(jobs, 0, key=attrgetter("order"))
        self.line += jobs[first:]
        self.heap += [(job.order, job.seq, job) for job in jobs[:first]]  # in order, so it is a heap

    def peek(self) -> Job | None:
        """Return the first job, dropping the blanks before it."""
        line, heap = self.line, self.heap
        while heap and heap[0][2].state is not _WAITING:
            heappop(heap)
            self.blanks -= 1
        while self.head < len(line):
            job = line[self.head]
            assert job is not None
            if job.state is _WAITING:
                return heap[0][2] if heap and heap[0][0] < job.order else job
            self._advance()
            self.blanks -= 1
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
        self.size -= 1
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

    def discard(self) -> None:
        """Note that one of its jobs is a blank now."""
        self.size -= 1
        self.blanks += 1
        if self.blanks > _SWEEP_MIN and self.blanks > self.size:
            self._sweep()

    def _sweep(self) -> None:
        self.blanks = 0
        self.line = [j for j in self.line[self.head :] if j is not None and j.state is _WAITING]
        self.head = 0
        self.heap = [entry for entry in self.heap if entry[2].state is _WAITING]
        heapify(self.heap)


class Ready:
    """The ready jobs of one queue. ``len`` is exact; a job leaves by :meth:`pop` or :meth:`discard`, and by nothing else.

    One that was discarded has ended: were it to wait again, it would stand at its blank, too. No two jobs have the same
    ``seq``, so entries of a heap never have to compare jobs.
    """

    __slots__ = ("_lanes", "_priorities", "_size")

    def __init__(self) -> None:
        self._lanes: dict[int, Lane] = {}
        """Those with a job in them."""
        self._priorities: list[int] = []  # negated, a heap; one without a lane may linger in it
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, job: Job) -> None:
        """Put in ``job``, which is ``waiting``, at its place."""
        lane = self._lanes.get(job.priority)
        if lane is None:
            lane = self._open(job.priority)
        lane.add(job)
        self._size += 1

    def _open(self, priority: int) -> Lane:
        lane = self._lanes[priority] = Lane()
        if len(self._priorities) > _SWEEP_MIN + 2 * len(self._lanes):
            self._priorities = [-priority for priority in self._lanes]
            heapify(self._priorities)
        else:
            heappush(self._priorities, -priority)
        return lane

    def fill(self, priority: int, jobs: list[Job]) -> None:
        """Put in all ``waiting`` jobs of one priority, which get sorted by their places."""
        self._open(priority).fill(jobs)
        self._size += len(jobs)

    def peek(self) -> Job | None:
        """Return the next job, or None."""
        while self._priorities:
            lane = self._lanes.get(-self._priorities[0])
            if lane is not None:
                return lane.peek()
            heappop(self._priorities)
        return None

    def pop(self) -> Job | None:
        """Take out the next job, or return None; its state is the caller's to change."""
        job = self.peek()
        if job is not None:
            self.take(job)
        return job

    def take(self, job: Job) -> None:
        """Take out ``job``, which :meth:`peek` just returned."""
        lane = self._lanes[job.priority]
        lane.drop(job)
        self._size -= 1
        if not lane.size:
            self._close(job.priority)

    def ready_since(self) -> int | None:
        """Return when the oldest job got ready, judged by the first of each priority, or None."""
        since = [lane.ready_since() for lane in islice(self._lanes.values(), _LANES_LOOKED_AT)]
        return min((at for at in since if at is not None), default=None)

    def discard(self, job: Job) -> None:
        """Note that ``job``, one of those in here, has just stopped to be ``waiting``."""
        self._size -= 1
        lane = self._lanes[job.priority]
        lane.discard()
        if not lane.size:
            self._close(job.priority)

    def _close(self, priority: int) -> None:
        """Let go of a lane, with its blanks, of which some may be large."""
        del self._lanes[priority]
        if not self._lanes:
            self._priorities.clear()
