"""Deadline heaps: when the next job is due, without ever looking at the others.

An entry is invalid once ``job.armed`` differs from its time. A deadline that moves later leaves its
entry, which re-arms itself when it surfaces (heartbeats cost nothing); one that moves earlier gets a
new entry. Invalid entries are swept out when they outnumber the valid ones.
"""

from heapq import heapify, heappop, heappush, heapreplace

from bunqueue_trio.engine.job import Job, State

# Below this a sweep saves no memory worth its time.
_SWEEP_MIN = 1024


class Timers:
    """One heap of deadlines; equal times fire in the order of ``Job.seq``.

    There is one for jobs that are active and one for those that are not: a job that changes sides is
    disarmed before it moves and armed after, so an entry left behind on the other side is invalid.
    """

    def __init__(self, *, active: bool) -> None:
        self._active = active
        self._heap: list[tuple[int, int, Job]] = []
        self._invalid = 0

    def __len__(self) -> int:
        return len(self._heap) - self._invalid

    def arm(self, job: Job, due: int) -> None:
        """Let ``job`` fire at ``due``, instead of whatever was set before."""
        job.due = due
        armed = job.armed
        if armed is None or due < armed:
            job.armed = due
            if armed is not None:
                self._invalidate()
            heappush(self._heap, (due, job.seq, job))

    def disarm(self, job: Job) -> None:
        """Forget the deadline of ``job``, if it has one."""
        job.due = None
        if job.armed is not None:
            job.armed = None
            self._invalidate()

    def next_due(self) -> int | None:
        """Return the time of the earliest deadline, or None."""
        heap = self._heap
        while heap:
            when, _, job = heap[0]
            if not self._valid(when, job):
                heappop(heap)
                self._invalid -= 1
            elif job.due != when:
                # It was moved later meanwhile.
                # An armed job has a deadline.
                assert job.due is not None
                job.armed = job.due
                heapreplace(heap, (job.due, job.seq, job))
            else:
                return when
        return None

    def pop_due(self, now: int) -> Job | None:
        """Return the first job whose deadline is at or before ``now``, disarmed, or None."""
        when = self.next_due()
        if when is None or when > now:
            return None
        job = heappop(self._heap)[2]
        job.armed = job.due = None
        # Also when the valid ones become fewer.
        self._sweep_if_due()
        return job

    def _valid(self, when: int, job: Job) -> bool:
        return job.armed == when and (job.state is State.ACTIVE) is self._active

    def _invalidate(self) -> None:
        self._invalid += 1
        self._sweep_if_due()

    def _sweep_if_due(self) -> None:
        if self._invalid > _SWEEP_MIN and self._invalid * 2 > len(self._heap):
            # A set: an entry left behind counts again once its job is armed for the same time again.
            self._heap = list({entry for entry in self._heap if self._valid(entry[0], entry[2])})
            heapify(self._heap)
            self._invalid = 0
