"""Deadline heaps: when the next job is due, without ever looking at the others.

An entry is invalid once ``job.armed`` differs from its time. A deadline that moves later leaves its
entry, which re-arms itself when it surfaces (heartbeats cost nothing); one that moves earlier gets a
new entry. Invalid entries are swept out when they outnumber the valid ones: out of a large heap by and by, since
of a million entries that takes 300 ms. What is still to be swept is a heap, too, of which the last entries leave.
"""

from heapq import heappop, heappush, heapreplace

from bunqueue_trio.engine.job import Job, State

# Below this a sweep saves no memory worth its time.
_SWEEP_MIN = 1024
# Entries that are swept in one go: 1 ms.
_SWEPT_AT_ONCE = 4096
# And of more, with each job whose deadline goes.
_SWEPT = 64


_Entry = tuple[int, int, Job]


class Timers:
    """One heap of deadlines; equal times fire in the order of ``Job.seq``.

    There is one for jobs that are active and one for those that are not: a job that changes sides is
    disarmed before it moves and armed after, so an entry left behind on the other side is invalid.
    """

    def __init__(self, *, active: bool) -> None:
        self._active = active
        self._heap: list[_Entry] = []
        self._old: list[_Entry] = []
        """A heap that is being swept: its valid entries move to the other one."""
        self._moved: set[_Entry] = set()
        """What has come to that one since; the same in the old one is invalid."""
        self._invalid = 0

    def __len__(self) -> int:
        return len(self._heap) + len(self._old) - self._invalid

    def arm(self, job: Job, due: int) -> None:
        """Let ``job`` fire at ``due``, instead of whatever was set before."""
        job.due = due
        armed = job.armed
        if armed is None or due < armed:
            job.armed = due
            if armed is not None:
                self._invalidate()
            self._push((due, job.seq, job))

    def disarm(self, job: Job) -> None:
        """Forget the deadline of ``job``, if it has one."""
        job.due = None
        if job.armed is not None:
            job.armed = None
            self._invalidate()

    def may_be_due(self, now: int) -> bool:
        """Return whether a deadline may have come; where not, none has, and that is known without a look at what is left behind."""
        heap = self._heap
        # What is swept is not in order: it has to be looked at.
        return heap[0][0] <= now if heap and not self._old else bool(self._old)

    def next_due(self) -> int | None:
        """Return the time of the earliest deadline, or None."""
        if self._old:
            # In this order: what was moved later leaves the old one.
            other, first = self._first(self._old), self._first(self._heap)
            return other if first is None or (other is not None and other < first) else first
        return self._first(self._heap) if self._heap else None

    def _first(self, heap: list[_Entry]) -> int | None:
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
                if heap is self._heap:
                    heapreplace(heap, (job.due, job.seq, job))
                else:
                    heappop(heap)
                    self._push((job.due, job.seq, job))
            else:
                return when
        return None

    def pop_due(self, now: int) -> Job | None:
        """Return the first job whose deadline is at or before ``now``, disarmed, or None."""
        when = self.next_due()
        if when is None or when > now:
            return None
        heap, old = self._heap, self._old
        job = heappop(old if old and (not heap or old[0] < heap[0]) else heap)[2]
        job.armed = job.due = None
        # Also when the valid ones become fewer.
        self._sweep_if_due()
        return job

    def _valid(self, when: int, job: Job) -> bool:
        return job.armed == when and (job.state is State.ACTIVE) is self._active

    def _invalidate(self) -> None:
        self._invalid += 1
        self._sweep_if_due()

    def _push(self, entry: _Entry) -> None:
        heappush(self._heap, entry)
        if self._old:
            self._moved.add(entry)

    def _sweep_if_due(self) -> None:
        if self._old:
            self._sweep_some()
        elif self._invalid > _SWEEP_MIN and self._invalid * 2 > len(self._heap):
            self._old, self._heap, self._moved = self._heap, [], set()
            while self._old and len(self._old) + len(self._heap) <= _SWEPT_AT_ONCE:
                self._sweep_some()

    def _sweep_some(self) -> None:
        old = self._old
        for _ in range(min(_SWEPT, len(old))):
            entry = old.pop()
            # A set: an entry left behind counts again once its job is armed for the same time again.
            if self._valid(entry[0], entry[2]) and entry not in self._moved:
                self._push(entry)
            else:
                self._invalid -= 1
        if not old:
            self._moved = set()
