"""Jobs that have failed and wait for their next attempt, in groups by their error: beside the dead letters of the same error, or before there are any.

A job is in its group from the failure to its next delivery or its end. The group is found in the step of the failure, and kept
with the job, so that a start need not find it anew. How large a group is together with the dead letters of the same error is kept, too, so that the largest are found at once.
"""

from collections.abc import Iterator, Mapping
from operator import attrgetter

from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.line import Line
from bunqueue_trio.engine.ranking import DeadGroups, Rank, Ranking

# Errors whose dead letters have changed that get their places in a step, 15 µs each: a batch may bring thousands, and retention tens of thousands.
_RANKED = 250


class RetryGroup:
    """Those of one error, the next to be tried first."""

    __slots__ = ("count", "last", "line", "queues", "since")

    def __init__(self, since: int) -> None:
        self.line: Line[Job] = Line(attrgetter("run_at", "seq"))
        self.queues: dict[str, int] = {}
        """How many are of each queue."""
        self.count: int = 0
        self.since: int = since
        """When the attempt began that made the group: from then on it was never empty."""
        self.last: int = since
        """The same of the newest."""


class Retrying(dict[str, RetryGroup]):
    """All groups by the fingerprint of their error; none is empty."""

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[Job, str] = {}
        """The groups of jobs whose notes do not have it, as those of older versions: who ends one may write another error first."""
        self._dead = DeadGroups({})
        self._sums: dict[str | None, Ranking] = {None: Ranking()}
        """Of each queue, and of None all, how many are tried again or have died; none of a queue is empty."""
        self._unplaced: dict[tuple[str, str], None] = {}
        """Those that have another number and not its place: most of a batch fail of the same error, and a place for each costs as much as the rest of a failure."""

    def add(self, job: Job) -> None:
        """Let a job wait for its next attempt, from now on."""
        key, since = group_of(job), job.started_at or 0
        if job.noted().fingerprint is None:
            self._found[job] = key
        group = self.get(key)
        if group is None:
            group = self[key] = RetryGroup(since)
        group.line.add(job)
        group.last = max(group.last, since)
        group.queues[job.queue] = group.queues.get(job.queue, 0) + 1
        group.count += 1
        self._add(job.queue, key, 1)

    def take(self, job: Job) -> None:
        """Let it wait no more; its time is as it was when it was added."""
        key = self._found.pop(job, None) or group_of(job)
        group = self[key]
        group.line.remove(job)
        group.count -= 1
        group.queues[job.queue] -= 1
        if not group.queues[job.queue]:
            del group.queues[job.queue]
            if not group.queues:
                del self[key]
        self._add(job.queue, key, -1)

    def with_dead(self, dead: DeadGroups) -> "Retrying":
        """Return the groups together with those of dead letters: to be counted, and looked at by their size."""
        if dead is not self._dead:
            # The first look, or the archive was counted anew.
            tried = [(queue, key) for key, group in self.items() for queue in group.queues]
            self._dead, self._sums, self._unplaced = dead, {None: Ranking()}, {}
            for queue, key in {*tried, *dead.all()}:
                self._count(queue, key)
            for ranking in self._sums.values():
                ranking.place_all()
        self.rank_some()
        return self

    def rank_some(self) -> bool:
        """Take account of some of the dead letters, and of the jobs tried again, that have come or gone; return whether these were the last."""
        if not (self._unplaced or self._dead.has_changed):
            # So it is at nearly every commit.
            return True
        changed = self._dead.take_changed(_RANKED)
        for queue, key in changed:
            self._count(queue, key)
            self._place(queue, key)
        for _ in range(min(_RANKED - len(changed), len(self._unplaced))):
            self._place(*self._unplaced.popitem()[0])
        return len(changed) < _RANKED and not self._unplaced

    def count(self, queue: str | None) -> int:
        """Return how many errors jobs of a queue, of None all, have died of or are tried again after."""
        ranking = self._sums.get(queue)
        return 0 if ranking is None else len(ranking.sizes)

    def behind(self, queue: str | None, place: Rank, some: int) -> list[Rank]:
        """Return the first of them behind a place, those of most jobs first."""
        ranking = self._sums.get(queue)
        return [] if ranking is None else ranking.behind(place, some)

    def is_ranked(self, key: str) -> bool:
        """Return whether an error has its place; also where dead letters that have come or gone are still to be taken account of."""
        group = self.get(key)
        number = self._dead.size(None, key) + (group.count if group else 0)
        return self._sums[None].sizes.get(key, 0) == number or self._dead.has_changed

    def _add(self, queue: str, key: str, n: int) -> None:
        self._sums[None].add(key, n)
        ranking = self._sums.get(queue)
        if ranking is None:
            ranking = self._sums[queue] = Ranking()
        ranking.add(key, n)
        if not ranking.sizes:
            del self._sums[queue]
        self._unplaced[queue, key] = None
        # A look places what is left.
        if len(self._unplaced) > _RANKED:
            self._place(*self._unplaced.popitem()[0])

    def _place(self, queue: str, key: str) -> None:
        for each in (None, queue):
            if (ranking := self._sums.get(each)) is not None:
                ranking.place(key)

    def _count(self, queue: str, key: str) -> None:
        group, dead = self.get(key), self._dead
        everywhere = self._sums[None]
        everywhere.add(key, dead.size(None, key) + (group.count if group else 0) - everywhere.sizes.get(key, 0))
        ranking = self._sums.get(queue)
        if ranking is None:
            ranking = self._sums[queue] = Ranking()
        here = dead.size(queue, key) + (group.queues.get(queue, 0) if group else 0)
        ranking.add(key, here - ranking.sizes.get(key, 0))
        if not ranking.sizes:
            del self._sums[queue]

    def where(self, key: str, queue: str | None) -> Mapping[str, int]:
        """Return how many there are of an error in each queue, or in the one."""
        group = self.get(key)
        if group is None:
            return {}
        return group.queues if queue is None else {queue: group.queues[queue]} if queue in group.queues else {}

    def of(self, key: str, queue: str | None) -> Iterator[Job]:
        """Iterate over those of an error, of one queue or of all, the next to be tried first; nothing may change meanwhile."""
        group = self.get(key)
        return iter(()) if group is None else (job for job in group.line if queue in (None, job.queue))


def is_retrying(job: Job) -> bool:
    """Return whether a job waits for another attempt."""
    return job.attempts > 0 and job.state in (State.WAITING, State.DELAYED)


def group_of(job: Job) -> str:
    """Return the fingerprint of the last error of a job that has failed."""
    note = job.noted()
    return note.fingerprint or fingerprint(note.error or "").key
