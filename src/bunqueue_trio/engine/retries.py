"""Dead letters that wait again: what forbids it, and the new job in the place of the old one."""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import Job, State


def key_is_held(engine: Engine, job: Job) -> bool:
    """Return whether an unfinished job has the unique key of ``job``, or one that is being pushed in bulk has its id."""
    queue, key = engine.queues.get(job.queue), job.options.unique_key
    return engine.is_reserved(job.id, job.queue) or (queue is not None and key is not None and key in queue.keys)


def archived_dependencies(engine: Engine, jobs: Iterable[Job]) -> Mapping[str, State]:
    """Return how those of the dependencies of ``jobs`` ended that have left memory, in one look."""
    return engine.archived_outcomes({job_id for job in jobs for job_id in job.options.depends_on})


def waits_for_a_dead_one(engine: Engine, job: Job, outcomes: Mapping[str, State]) -> bool:
    """Return whether a dependency of ``job`` is dead still: many are retried in the order that they depend on."""
    return any(engine.outcome(job_id, outcomes) is State.FAILED for job_id in job.options.depends_on)


def requeue(engine: Engine, dead: Job, now: int, data: bytes | None = None) -> Job:
    """Put a new job in the place of a dead one, under its id, with another payload if told: one commit takes the record and brings the job."""
    options = dead.options
    if data is None:
        data = dead.data
    # The next run has been made when this one died.
    if options.series is not None:
        options = replace(options, series=None)
    waits = {job_id for job_id in options.depends_on if engine.standing(job_id) is not None}
    engine.replace(dead.id, dead.queue)
    queue = engine.queues.open(dead.queue)
    return engine.add(dead.id, queue, data, options, priority=dead.priority, run_at=now, waiting_on=waits, now=now)
