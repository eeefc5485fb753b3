"""All jobs by their ids, in many small dictionaries: a single one would stop everybody each time that it grows.

A dictionary copies itself when it is full: 14 ms at 350,000 jobs, 129 ms at 2.8 million. One of a thousand does so in a
thousandth of the time, and they do not grow in the same moment; each look costs 0.1 µs more.
"""

from collections.abc import Iterable, Iterator, MutableMapping

from bunqueue_trio.engine.job import Job

# A power of two.
SHARDS = 1024
_MASK = SHARDS - 1
# By which bits of its hash an id finds its shard. Not the lowest: a dictionary begins to look by those, and would have them all at
# one place, which costs each look among many jobs a third more.
_SHIFT = 20


class Jobs(MutableMapping[str, Job]):
    """A mapping of ids to jobs. Its order is that of the pushes, and has to be computed."""

    __slots__ = ("_shards",)

    def __init__(self) -> None:
        self._shards: list[dict[str, Job]] = [{} for _ in range(SHARDS)]

    def __getitem__(self, job_id: str) -> Job:
        return self._shards[hash(job_id) >> _SHIFT & _MASK][job_id]

    def __setitem__(self, job_id: str, job: Job) -> None:
        self._shards[hash(job_id) >> _SHIFT & _MASK][job_id] = job

    def __delitem__(self, job_id: str) -> None:
        del self._shards[hash(job_id) >> _SHIFT & _MASK][job_id]

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._shards[hash(job_id) >> _SHIFT & _MASK]

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def __iter__(self) -> Iterator[str]:
        found = [job for shard in self._shards for job in shard.values()]
        found.sort(key=lambda job: job.seq)
        return (job.id for job in found)

    # What an engine uses; the general ones go a longer way.

    def add(self, job: Job) -> None:
        """Add a job, in the place of any other with its id."""
        self._shards[hash(job.id) >> _SHIFT & _MASK][job.id] = job

    def fill(self, jobs: Iterable[Job]) -> None:
        """Add many jobs, each as :meth:`add` does."""
        shards = self._shards
        for job in jobs:
            job_id = job.id
            shards[hash(job_id) >> _SHIFT & _MASK][job_id] = job

    def find(self, job_id: str) -> Job | None:
        """Return a job, or None."""
        return self._shards[hash(job_id) >> _SHIFT & _MASK].get(job_id)

    def take(self, job_id: str) -> Job | None:
        """Remove a job and return it; None when there is none."""
        return self._shards[hash(job_id) >> _SHIFT & _MASK].pop(job_id, None)
