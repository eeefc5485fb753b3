"""Jobs that have failed and wait for their next attempt, in groups by their error: beside the dead letters of the same error, or before there are any.

A job is in its group from the failure to its next delivery or its end. The group is found in the step of the failure, and kept
with the job, so that a start need not find it anew.
"""

from collections.abc import Iterator, Mapping
from operator import attrgetter

from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.line import Line


class RetryGroup:
    """Those of one error, the next to be tried first."""

    __slots__ = ("last", "line", "queues", "since")

    def __init__(self, since: int) -> None:
        self.line: Line[Job] = Line(attrgetter("run_at", "seq"))
        self.queues: dict[str, int] = {}
        """How many are of each queue."""
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

    def take(self, job: Job) -> None:
        """Let it wait no more; its time is as it was when it was added."""
        key = self._found.pop(job, None) or group_of(job)
        group = self[key]
        group.line.remove(job)
        group.queues[job.queue] -= 1
        if not group.queues[job.queue]:
            del group.queues[job.queue]
            if not group.queues:
                del self[key]

    def sizes(self, queue: str | None) -> dict[str, int]:
        """Return how many there are by fingerprint, of one queue or of all."""
        if queue is None:
            return {key: sum(group.queues.values()) for key, group in self.items()}
        return {key: group.queues[queue] for key, group in self.items() if queue in group.queues}

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
