"""Who waits for whom: the jobs in ``waiting-children`` by the id of each open dependency."""

from collections.abc import Iterator

from bunqueue_trio.engine.job import Job


class Dependents:
    """Kept in step with ``Note.waiting_on`` of every waiting job; answers in the order of the pushes."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[str, dict[Job, None]] = {}

    def __len__(self) -> int:
        """Return how many dependencies are open."""
        return len(self._waiting)

    def add(self, job: Job) -> None:
        """Note everything that ``job`` waits for."""
        for dependency in job.noted().waiting_on or ():
            self._waiting.setdefault(dependency, {})[job] = None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the open dependencies."""
        return iter(self._waiting)

    def remove(self, job: Job) -> None:
        """Let ``job`` wait for nothing any more."""
        for dependency in job.noted().waiting_on or ():
            others = self._waiting.get(dependency, {})
            if others.pop(job, job) is None and not others:
                del self._waiting[dependency]
        job.noted().waiting_on = None

    def detach(self, job_id: str) -> dict[Job, None]:
        """Return the jobs that wait for ``job_id``, which has ended; the caller passes that on to each, by :meth:`settle` or its end.

        A later job of the same id has nothing to do with them.
        """
        return self._waiting.pop(job_id, {})

    def settle(self, job: Job, dependency: str) -> bool:
        """Note for ``job`` that ``dependency`` has completed; return whether it was still waiting for it."""
        note = job.note
        if note is None or dependency not in (note.waiting_on or ()):
            # It has ended meanwhile.
            return False
        assert note.waiting_on is not None
        note.waiting_on.remove(dependency)
        if not note.waiting_on:
            note.waiting_on = None
        return True
