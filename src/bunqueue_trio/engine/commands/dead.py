"""Handlers of the commands about dead letters."""

from collections.abc import Mapping

from msgspec.structs import replace

from bunqueue_trio.engine.cursors import ended_page
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.lookup import reason_of, view_fields
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r


def _list(engine: Engine, command: c.Dlq, now: int, owner: Owner) -> r.Reply:
    jobs, after = ended_page(engine, command.queue, State.FAILED, command.after, command.limit)
    entries = [
        r.DeadLetter(
            job=r.JobView(**view_fields(job)),
            entered_at=job.noted().finished_at,
            reason=reason_of(job),
            error=job.noted().error,
        )
        for job in jobs
    ]  # fmt: skip
    return r.DeadReply(entries=entries, total=engine.dead_left(command.queue), next=after)


def _retry(engine: Engine, command: c.RetryDlq, now: int, owner: Owner) -> r.Reply:
    job_id = command.id if command.job_id is None else command.job_id
    if job_id is not None:
        return _retry_one(engine, command.queue, job_id, now)
    jobs, after = ended_page(engine, command.queue, State.FAILED, command.after, command.limit)
    # Newest end first is for who looks; they queue in the order in which they died.
    outcomes = engine.archived_outcomes({job_id for job in jobs for job_id in job.options.depends_on})
    retried = [
        _requeue(engine, job, now)
        for job in reversed(jobs)
        if not (_key_is_held(engine, job) or _waits_for_a_dead_one(engine, job, outcomes))
    ]
    return r.RetryReply(count=len(retried), left=engine.dead_left(command.queue), next=after)


def _retry_one(engine: Engine, queue: str, job_id: str, now: int) -> r.Reply:
    job = _dead(engine, queue, job_id)
    if _key_is_held(engine, job):
        raise c.KEY_IS_HELD.refuse()
    _requeue(engine, job, now)
    return r.RetryReply(count=1, left=engine.dead_left(queue), next=None)


def _dead(engine: Engine, queue: str, job_id: str) -> Job:
    """Return a dead letter of a queue.

    Raises:
        Refused: it is none.
    """
    engine.queues.check(queue)
    job = engine.find(job_id)
    if job is None or job.state is not State.FAILED or job.queue != queue:
        raise c.NOT_DEAD.refuse()
    return job


def _purge(engine: Engine, command: c.PurgeDlq, now: int, owner: Owner) -> r.Reply:
    job_id, after = command.id if command.job_id is None else command.job_id, None
    if job_id is not None:
        jobs = [_dead(engine, command.queue, job_id)]
    else:
        jobs, after = ended_page(engine, command.queue, State.FAILED, command.after, command.limit)
    for job in jobs:
        engine.replace(job.id, job.queue)
    return r.PurgeReply(count=len(jobs), left=engine.dead_left(command.queue), next=after)


def _key_is_held(engine: Engine, job: Job) -> bool:
    queue, key = engine.queues.get(job.queue), job.options.unique_key
    return queue is not None and key is not None and key in queue.keys


def _waits_for_a_dead_one(engine: Engine, job: Job, outcomes: Mapping[str, State]) -> bool:
    """Return whether a dependency of ``job`` is dead still: all of a queue are retried in the order that they depend on."""
    return any(engine.outcome(job_id, outcomes) is State.FAILED for job_id in job.options.depends_on)


def _requeue(engine: Engine, dead: Job, now: int) -> Job:
    """Put a new job in the place of a dead one, under its id: one commit takes the record and brings the job."""
    data, options = dead.data, dead.options
    if options.series is not None:  # the next run has been made when this one died
        options = replace(options, series=None)
    waits = {job_id for job_id in options.depends_on if engine.standing(job_id) is not None}
    engine.replace(dead.id, dead.queue)
    return engine.add(dead.id, engine.queues.open(dead.queue), data, options, dead.priority, now, waits, now)


HANDLERS: Handlers = {c.Dlq: _list, c.RetryDlq: _retry, c.PurgeDlq: _purge}
