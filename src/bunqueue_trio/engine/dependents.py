"""Who waits for whom: the jobs in ``waiting-children`` by the id of each open dependency."""

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

    def remove(self, job: Job) -> None:
        """Let ``job`` wait for nothing any more."""
        for dependency in job.noted().waiting_on or ():
            others = self._waiting[dependency]
            del others[job]
            if not others:
                del self._waiting[dependency]
        job.noted().waiting_on = None

    def of(self, job_id: str) -> list[Job]:
        """Return the jobs that wait for ``job_id``."""
        waiting = self._waiting.get(job_id)
        return list(waiting) if waiting else []

    def settle(self, job_id: str) -> list[Job]:
        """Note that ``job_id`` has completed; return the jobs that waited for it."""
        waiting = self._waiting.pop(job_id, None)
        if waiting is None:
            return []
        for job in waiting:
            note = job.noted()
            assert note.waiting_on is not None
            note.waiting_on.remove(job_id)
            if not note.waiting_on:
                note.waiting_on = None
        return list(waiting)
